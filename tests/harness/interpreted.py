"""The kernels for CUDA on the CPU: Triton's interpreter runs them, and the dispatcher is led to them.

Where there is a GPU it runs them itself: tensors go there and come back at every call, and the same checks hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter

import conform
from conform import Operator
from switchgrad.kernels import cuda

VALUES = ("values_equal_the_loops", "the_batch_may_be_missing", "the_batch_may_be_empty")
GRADIENTS = ("gradients_equal_the_loops", "empty_batches_have_derivatives")
LAYOUTS = ("layouts_do_not_matter", "gradients_follow_the_layout", "fresh_memory_does_not_matter")


_convert_float = interpreter._convert_float


def _converted(input: np.ndarray, source: tl.dtype, target: tl.dtype, rounding: Any) -> np.ndarray:
    """Triton's interpreter cuts bfloat16 off and flushes its smallest numbers to 0; no GPU does either."""
    if (source, target) == (tl.bfloat16, tl.float32):
        return torch.from_numpy(input.view(np.int16)).view(torch.bfloat16).float().numpy().view(np.uint32)
    if (source, target) == (tl.float32, tl.bfloat16):
        return torch.from_numpy(input.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    return _convert_float(input, source, target, rounding)


interpreter._convert_float = _converted


class OnTriton(TorchDispatchMode):
    """Within it operators run on their Triton kernels, whatever the device; ``replaced`` puts others in their place."""

    def __init__(self, **replaced: Callable[..., Any]) -> None:
        super().__init__()
        self.replaced = replaced
        self.served: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        space, _, name = func.name().partition("::")
        if space != "switchgrad" or name not in cuda.MODULES:
            return func(*args, **(kwargs or {}))
        self.served.add(name)
        kernel = self.replaced.get(name, cuda.kernel(name))
        with np.errstate(all="ignore"):  # infinities meet, and nothing on a GPU warns of it
            return carried(kernel, args, "cuda") if torch.cuda.is_available() else kernel(*args)


def moved(tensor: Tensor, device: str) -> Tensor:
    """A copy on a device with the same strides, gaps and overlaps."""
    bytes = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
    memory = bytes.to(device, copy=True)
    there = torch.empty(0, dtype=tensor.dtype, device=device)
    return there.set_(memory.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def carried(kernel: Callable[..., Any], args: tuple[Any, ...], device: str) -> Any:
    """Call a kernel on copies on a device, and bring back what it gives and what it writes to."""
    there = {i: moved(arg.detach(), device) for i, arg in enumerate(args) if isinstance(arg, Tensor)}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        found = kernel(*(there.get(i, arg) for i, arg in enumerate(args)))
    for i, copy in there.items():
        back = moved(copy, "cpu")
        if not torch.equal(back.nan_to_num(), args[i].detach().nan_to_num()):
            args[i].detach().copy_(back)
    if isinstance(found, tuple):
        return tuple(moved(each, "cpu") for each in found)
    return moved(found, "cpu") if isinstance(found, Tensor) else found


def subset(operator: Operator, *cases: str, **fields: Any) -> Operator:
    """A declaration with some of its cases and other ``fields``: an interpreted kernel takes hundredths of a second."""
    chosen = tuple(case for case in operator.cases if case.name in cases)
    if len(chosen) != len(cases):
        raise KeyError(f"{operator.name} has no case {set(cases) - {case.name for case in chosen}}")
    return replace(operator, cases=chosen, native=False, peer=None, **fields)


def held_to(operator: Operator, checks: tuple[str, ...], *serving: str) -> Any:
    """A pytest function for each check; ``serving`` names the operators whose kernels must have been called."""

    @pytest.mark.parametrize("name", checks)
    def conforms(name: str) -> None:
        with OnTriton() as mode:
            conform.check(operator, [name])
        assert mode.served >= set(serving)

    return conforms


def caught(operator: Operator, checks: tuple[str, ...], mutants: dict[tuple[str, str], Callable[..., Any]]) -> Any:
    """A pytest function for each wrong kernel, by the operator's name and what is wrong: a check must tell it apart.

    A mutant is called with the right kernel and its arguments.
    """

    @pytest.mark.parametrize("key", mutants, ids=lambda key: f"{key[0]}: {key[1]}")
    def is_caught(key: tuple[str, str]) -> None:
        name, _ = key
        mode = OnTriton(**{name: partial(mutants[key], cuda.kernel(name))})
        with mode, pytest.raises(conform.Failure):
            conform.check(operator, list(checks))
        assert name in mode.served

    return is_caught
