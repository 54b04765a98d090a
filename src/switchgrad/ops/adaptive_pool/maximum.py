"""Adaptive max pooling where windows differ in size: PyTorch's kernel finds the winners, a gather takes their numbers.

PyTorch's rules for ties and NaN are ours; its derivatives are not used, because a gather is differentiable at every
order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.ops import linear
from switchgrad.ops.adaptive_pool.average import fixed_bins
from switchgrad.ops.exporting import is_exporting
from switchgrad.ops.layout import following

_TORCH: dict[int, Any] = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}


def pool_bins(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The maxima of adaptive windows and PyTorch's flat indices of where they stood."""
    dims = len(places)
    if is_exporting():
        return _unrolled(input, places)
    indices = _TORCH[dims](input.detach(), places, return_indices=True)[1]
    planes = linear.apply(input, _Planes(dims)) if linear.lies_channels_last(input, dims) else input
    values = planes.flatten(-dims).gather(-1, indices.flatten(-dims)).reshape(indices.shape)
    return following(input, values, dims), following(input, indices, dims)


@dataclass(frozen=True, slots=True)
class _Planes:
    """The input as it is; what comes back gets its layout."""

    dims: int

    def up(self, input: Tensor) -> Tensor:
        """A row-major copy."""
        return input.clone(memory_format=torch.contiguous_format)

    def down(self, pooled: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:  # noqa: ARG002
        """The same numbers in the layout of the input."""
        return pooled.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else pooled.contiguous()


def _unrolled(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The same from slices, maxima and joins, which is what ONNX has, axis after axis from the last.

    Of equal cells the first of its row stays, then the first row: the first in row-major order.
    """
    dims = len(places)
    size = input.shape[-dims:]
    pooled, index = input, torch.arange(math.prod(size), device=input.device).reshape(tuple(size)).expand(input.shape)
    for axis, along in reversed(list(zip(range(-dims, 0), fixed_bins(input, places), strict=True))):
        parts = [_winner(pooled, index, axis, begin, end) for begin, end in along]
        pooled, index = (torch.cat(list(tensors), axis) for tensors in zip(*parts, strict=True))
    return pooled, index


def _winner(input: Tensor, index: Tensor, axis: int, begin: int, end: int) -> tuple[Tensor, Tensor]:
    cells, names = (t.narrow(axis, begin, end - begin) for t in (input, index))
    return cells.amax(axis, keepdim=True), names.gather(axis, cells.argmax(axis, keepdim=True))
