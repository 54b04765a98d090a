"""The sentences that operators of floating-point numbers share about their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import is_integer

FLOATS = frozenset((torch.float64, torch.float32, torch.float16, torch.bfloat16))


def check_tensor(given: object, name: str) -> None:
    """Refuse what is no tensor."""
    if not isinstance(given, Tensor):
        raise GeometryError(f"{name} is {given!r}, a {type(given).__name__}; give a tensor")


def check_map_tensor(given: object, name: str, dims: int) -> None:
    """Refuse what is no tensor as the input of the operator ``name`` over ``dims`` axes."""
    if not isinstance(given, Tensor):  # the names are joined only then: that takes longer than the question
        check_tensor(given, f"the input of {name}{dims}d")


def number(value: Any, name: str) -> float:
    """``value``, if it is a number."""
    if not isinstance(value, (int, float)) and not (hasattr(value, "__float__") and not isinstance(value, str)):
        raise GeometryError(f"{name} is {value!r}, a {type(value).__name__}; give a number")
    return value


def count(value: Any, name: str, least: int = 1) -> int:
    """``value``, if it is an integer and not too small."""
    if not is_integer(value) or value < least:
        raise GeometryError(f"{name} is {value!r}; give an integer of at least {least}")
    return value


def integers(value: Any, name: str, axes: int) -> list[int]:
    """``value`` as integers: those of the last ``axes`` axes, or a whole shape."""
    if not isinstance(value, Sequence) or not all(map(is_integer, cast("Sequence[object]", value))):
        raise GeometryError(f"{name} is {value!r}; give {axes} integers or the whole shape")
    return list(cast("Sequence[int]", value))


def in_words(call: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """``call(*arguments)`` of one of our operators, whose refusal becomes a `GeometryError` with the same sentence.

    For what only a kernel looks at: the numbers in indices, codes and boxes. A compiled graph calls the kernel itself
    and raises the sentence as a ``RuntimeError``, which a `GeometryError` is too.
    """
    if torch.compiler.is_compiling():
        return call(*arguments)
    try:
        return call(*arguments)
    except RuntimeError as refusal:
        if type(refusal) is RuntimeError and str(refusal).startswith(_REFUSALS):
            raise GeometryError(str(refusal)) from None
        raise


_REFUSALS = ("max_unpool ", "some switches ", "box ")  # how the kernels' sentences about such numbers begin


def check_floats(input: Tensor, dims: int, name: str) -> None:
    """Refuse inputs that have the wrong number of axes, an empty axis besides the batch, or no floating-point dtype."""
    check_tensor(input, f"the input of {name}")
    check_map_of_floats(input.shape, input.dtype, dims, name)


def check_map_of_floats(shape: Sequence[int], dtype: torch.dtype, dims: int, name: str) -> None:
    """Refuse what `check_floats` refuses, by shape and type."""
    check_map(shape, dims, name)
    if dtype not in FLOATS:
        raise GeometryError(
            f"the input has dtype {dtype}; {name} takes float64, float32, float16 or bfloat16, so convert it "
            "first, for example with .float()"
        )


def check_map(shape: Sequence[int], dims: int, name: str) -> None:
    """Refuse shapes that have the wrong number of axes or an empty axis besides the batch."""
    if len(shape) not in (dims + 1, dims + 2):
        raise GeometryError(
            f"{name} takes an input of {dims + 1} or {dims + 2} axes (without or with a batch); this one has "
            f"shape {tuple(shape)}"
        )
    if 0 in shape[-dims - 1 :]:
        raise GeometryError(
            f"the input has an axis without cells (shape {tuple(shape)}); every axis but the batch needs at "
            "least 1 cell"
        )
