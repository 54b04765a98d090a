"""Max pooling in ONNX, and going by its switches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.ops.layout import code_dtype, no_winner
from switchgrad.ops.lowering.nodes import Size, laid, pool, takes
from switchgrad.ops.max_pool import reference
from switchgrad.ops.max_pool.reference import lowest
from switchgrad.ops.windows import windows

_NATIVE = frozenset((torch.float64, torch.float32, torch.float16, torch.int8, torch.uint8))


def values(input: Tensor, window: Window) -> Tensor:
    """The maxima, by ONNX's MaxPool; where that does not do, by as many comparisons as a window has cells."""
    if input.dtype in _NATIVE and takes(window, input.shape[-window.dims :]):
        return pool("MaxPool", input, window, lowest(input.dtype))
    wide = input.float() if input.dtype.is_floating_point else input.to(torch.int64)
    return functools.reduce(torch.maximum, laid(wide, window, lowest(input.dtype))).to(input.dtype)


def codes(input: Tensor, window: Window) -> Tensor:
    """The first cell in row-major order that holds the maximum, 255 (-1) where a window has none inside the input."""
    dtype = code_dtype(window.cells)
    wide = input if input.dtype.is_floating_point else input.to(torch.int64)
    fill = lowest(wide.dtype)
    cells = windows(wide, window, fill)
    inside = windows(wide.new_ones(wide.shape[-window.dims :], dtype=torch.float32), window, 0.0) > 0
    wins = ((cells == cells.amax(-1, keepdim=True)) & inside).to(torch.int32)
    found = torch.where(wins.amax(-1) > 0, wins.argmax(-1), no_winner(dtype))
    return found.to(dtype)


def _max_pool(input: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    window = window_of(numbers)
    return values(input, window), codes(input, window)


def _relu_max_pool(input: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    return rectified(input, window_of(numbers))


def rectified(input: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """The maxima behind a ReLU, whose dead windows have no winner."""
    pooled, found = values(input, window), codes(input, window)
    return pooled.relu(), torch.where(pooled <= 0, no_winner(found.dtype), found).to(found.dtype)


def _indices(found: Tensor, size: Size, numbers: Sequence[int]) -> Tensor:
    """PyTorch's flat indices: the row of a winner is its window's first row plus its code's row, and so on."""
    window = window_of(numbers)
    rest = found.to(torch.int64)
    index = torch.zeros_like(rest)
    for axis in reversed(range(window.dims)):
        shape = [-1] + [1] * (window.dims - 1 - axis)
        start = torch.arange(found.shape[axis - window.dims], device=found.device) * window.stride[axis]
        cell = rest % window.kernel_size[axis]
        rest = torch.div(rest, window.kernel_size[axis], rounding_mode="floor")
        at = (start - window.padding[axis][0]).reshape(shape) + cell * window.dilation[axis]
        index = index + at * math.prod(size[axis + 1 :])
    return torch.where(found == no_winner(found.dtype), -1, index)


def _gather(input: Tensor, found: Tensor, numbers: Sequence[int]) -> Tensor:
    dims = window_of(numbers).dims
    index = _indices(found, input.shape[-dims:], numbers)
    taken = input.flatten(-dims).gather(-1, index.clamp_min(0).flatten(-dims)).reshape(found.shape)
    return torch.where(index < 0, 0, taken).to(input.dtype)


def _route(pooled: Tensor, found: Tensor, size: Size, numbers: Sequence[int]) -> Tensor:
    dims = window_of(numbers).dims
    index = _indices(found, size, numbers)
    placed = torch.where(index < 0, 0, pooled).flatten(-dims)
    total = pooled.new_zeros((*pooled.shape[:-dims], math.prod(size)))
    total = total.scatter_add(-1, index.clamp_min(0).flatten(-dims), placed)
    return total.reshape(*pooled.shape[:-dims], *size)


def _first(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Tensor]:
    return lambda *args: function(*args)[0]


LOWERED: dict[str, Callable[..., Any]] = {
    "max_pool": _max_pool,
    "max_pool_values": _first(_max_pool),
    "relu_max_pool": _relu_max_pool,
    "relu_max_pool_values": _first(_relu_max_pool),
    "max_pool_indices": _indices,
    "max_pool_gather": _gather,
    "max_pool_route": _route,
    "max_unpool": reference.max_unpool,
}
