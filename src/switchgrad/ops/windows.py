"""Windows laid side by side: what operators without kernels of their own are written with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import GeometryError
from switchgrad.geometry import MOST, IntOrTuple, Padding, Window, is_integer, window
from switchgrad.ops.checks import check_tensor

FLOATS = frozenset((torch.float64, torch.float32, torch.float16, torch.bfloat16))


def windows(input: Tensor, window: Window, fill: float = 0.0) -> Tensor:
    """Every window's cells along a new last axis, in row-major order: ``(..., P, Q, cells)``.

    Cells outside the input hold ``fill``. Backward: each cell gets the sum over the windows that hold it.

    >>> from switchgrad import geometry
    >>> windows(torch.tensor([[1.0, 2.0, 3.0]]), geometry.window(1, 2, stride=1, padding=((1, 0),)))
    tensor([[[0., 1.],
             [1., 2.],
             [2., 3.]]])
    """
    laid = padded(input, window, fill)
    first = laid.dim() - window.dims
    for axis, (span, stride) in enumerate(zip(window.effective, window.stride, strict=True)):
        laid = laid.unfold(first + axis, span, stride)
    for axis, dilation in enumerate(window.dilation):
        if dilation > 1:
            laid = laid[(..., slice(None, None, dilation), *[slice(None)] * (window.dims - 1 - axis))]
    return laid.flatten(-window.dims)


def cells(input: Tensor, window: Window, fill: float = 0.0) -> Iterator[tuple[int, Tensor]]:
    """The same cells one offset after the other, without a copy: ``(offset, (..., P, Q))`` in row-major order."""
    places = window.output_size(input.shape[-window.dims :])
    laid = padded(input, window, fill)
    for offset, cell in enumerate(itertools.product(*map(range, window.kernel_size))):
        starts = [c * d for c, d in zip(cell, window.dilation, strict=True)]
        steps = [
            slice(start, start + (p - 1) * s + 1, s) for start, p, s in zip(starts, places, window.stride, strict=True)
        ]
        yield offset, laid[(..., *steps)]


def padded(input: Tensor, window: Window, fill: float) -> Tensor:
    """The input as far as the windows reach: padded, or cropped where the last windows end before it does."""
    size = input.shape[-window.dims :]
    places = window.output_size(size)
    pads: list[int] = []
    for axis in reversed(range(window.dims)):
        begin = window.padding[axis][0]
        reach = (places[axis] - 1) * window.stride[axis] + window.effective[axis]
        pads += [begin, reach - begin - size[axis]]
    return functional.pad(input, pads, value=fill) if any(pads) else input


def checked_window(
    name: str,
    dims: int,
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    dilation: IntOrTuple,
    ceil_mode: bool,
) -> Window:
    """The window, after a look at the input: `GeometryError` where the two do not fit."""
    check_floats(f"{name}{dims}d", input, dims)
    size = input.shape[-dims:]
    win = window(dims, kernel_size, stride, padding, dilation, ceil_mode, size)
    win.output_size(size)
    return win


def check_floats(name: str, input: Tensor, dims: int) -> None:
    """Refuse inputs with the wrong number of axes, with an empty one beside the batch, or without fractions."""
    check_tensor(input, f"the input of {name}")
    if input.dim() not in (dims + 1, dims + 2):
        raise GeometryError(
            f"{name} takes an input of {dims + 1} or {dims + 2} axes (without or with a batch); this one has shape "
            f"{tuple(input.shape)}"
        )
    if 0 in input.shape[-dims - 1 :]:
        raise GeometryError(
            f"the input of {name} has shape {tuple(input.shape)}; every axis but the batch needs at least 1 cell"
        )
    if input.dtype not in FLOATS:
        raise GeometryError(f"the input of {name} has dtype {input.dtype}; give float64, float32, float16 or bfloat16")


def wide(tensor: Tensor) -> Tensor:
    """In the precision to compute in: half-precision numbers as float32, others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """While this lasts, what is computed with ``tensor`` keeps its precision, on devices that would lower it."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def per_axis(name: str, value: IntOrTuple, dims: int, minimum: int = 1) -> tuple[int, ...]:
    """One integer an axis from the short form, at least ``minimum`` each.

    >>> per_axis("output_size", 7, 2)
    (7, 7)
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dims
    if len(values) != dims or not all(is_integer(v) and minimum <= v <= MOST for v in values):
        raise GeometryError(f"{name} is {value!r}; give an integer of at least {minimum}, or {dims} of them")
    return values
