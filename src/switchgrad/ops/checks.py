"""The sentences that operators of floating-point numbers share about their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from switchgrad.errors import GeometryError, SwitchgradError
from switchgrad.geometry import is_integer

FLOATS = frozenset((torch.float64, torch.float32, torch.float16, torch.bfloat16))


def described(given: object) -> str:
    """What was given, in a few words: numbers and short strings as they are, anything else by its type and shape."""
    kind, shape = type(given).__name__, getattr(given, "shape", None)
    if given is None:
        return "None"
    if isinstance(given, (int, float, complex)) or (isinstance(given, str) and len(given) <= _SHORT):
        return f"{given!r}, a {kind}"
    return f"of type {kind} and shape {shape}" if isinstance(shape, tuple) else f"of type {kind}"


_SHORT = 40


def check_tensor(given: object, name: str) -> None:
    """Refuse what is no tensor, and tensors that do not lie in memory number by number."""
    if not isinstance(given, Tensor):
        raise GeometryError(f"{name} is {described(given)}; give a tensor")
    if given.layout != torch.strided:
        raise GeometryError(f"{name} is laid out as {given.layout}; give a dense tensor, for example by .to_dense()")


def check_map_tensor(given: object, name: str, dims: int) -> None:
    """Refuse what is no tensor as the input of the operator ``name`` over ``dims`` axes."""
    # The names are joined only then: that takes longer than the question.
    if not isinstance(given, Tensor) or given.layout != torch.strided:
        check_tensor(given, f"the input of {name}{dims}d")


def number(value: Any, name: str) -> float:
    """``value``, if it is one number, NaN among them."""
    if isinstance(value, (int, float)):
        return value
    if not hasattr(value, "__float__") or getattr(value, "shape", ()) not in ((), (1,)):
        raise GeometryError(f"{name} is {described(value)}; give a number")
    return value


def known_number(value: Any, name: str) -> float:
    """``value``, if it is one number and not NaN."""
    if isinstance(number(value, name), float) and value != value:
        raise GeometryError(f"{name} is {value}; give a number that is not NaN")
    return value


def count(value: Any, name: str, least: int = 1, *, error: type[SwitchgradError] = GeometryError) -> int:
    """``value``, if it is an integer and not too small."""
    if not is_integer(value):
        raise error(f"{name} is {described(value)}; give an integer of at least {least}")
    if value < least:
        raise error(f"{name} is {value}; give an integer of at least {least}")
    return value


def function(value: Any, name: str) -> Callable[..., Any]:
    """``value``, if it can be called."""
    if not callable(value):
        raise GeometryError(f"{name} is {described(value)}; give a function")
    return value


def generator_or_none(value: Any) -> torch.Generator | None:
    """``value``, if random numbers can be drawn from it or PyTorch's own generator is meant."""
    if value is not None and not isinstance(value, torch.Generator):
        raise GeometryError(f"generator is {described(value)}; give a torch.Generator, or None for PyTorch's own")
    return value


def probability(name: str, value: float) -> float:
    """``value``, if it is one."""
    if not 0 <= number(value, name) <= 1:
        raise GeometryError(f"{name} is {value}; give a probability between 0 and 1")
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
