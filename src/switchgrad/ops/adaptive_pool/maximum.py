"""Adaptive max pooling where windows differ in size: by the kernels for windows at given places.

Elsewhere, and where functorch or the compiler looks on, PyTorch's kernel finds the winners and a gather takes their
numbers: its rules for ties and NaN are ours, and a gather is differentiable at every order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.kernels import native
from switchgrad.kernels.cuda import DEVICES
from switchgrad.ops import linear_maps, placed
from switchgrad.ops.adaptive_pool.average import bins, fixed_bins
from switchgrad.ops.exporting import is_exporting
from switchgrad.ops.layout import following
from switchgrad.ops.placed.reference import codes_of
from switchgrad.ops.placed.reference import indices as flat_indices
from switchgrad.ops.routing import is_plain, is_transformed

_TORCH: dict[int, Any] = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}


def maxima(input: Tensor, places: tuple[int, ...]) -> Tensor:
    """The maxima of adaptive windows."""
    if _has_kernel(input):
        return _placed(input, places)[0]
    return _gathered(input, places)[0]


def maxima_and_indices(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The maxima of adaptive windows and PyTorch's flat indices of where they stood."""
    if not _has_kernel(input):
        return _gathered(input, places)
    values, codes, starts, kernel_size = _placed(input, places)
    size = tuple(input.shape[-len(places) :])
    return values, following(codes, flat_indices(codes, starts, kernel_size, size), len(places))


def maxima_and_switches(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, placed.PlacedSwitches]:
    """The maxima of adaptive windows and where they stood, with the windows that they stood in."""
    size = tuple(input.shape[-len(places) :])
    if _has_kernel(input):
        values, codes, starts, kernel_size = _placed(input, places)
        stops = _lists(size, places, input.device)[1]
    else:
        values, indices = _gathered(input, places)
        starts, stops, kernel_size = _lists(size, places, input.device)
        codes = following(values, codes_of(indices, starts, places, kernel_size, size), len(places))
    begins, ends = (tuple(t.split(places, -1)) for t in (starts, stops))
    return values, placed.PlacedSwitches(codes, begins, kernel_size, size, ends)


def _has_kernel(input: Tensor) -> bool:
    device = input.device.type
    if is_exporting() or device not in DEVICES or (device == "cpu" and native.LIBRARY is None):
        return False
    return not (torch.compiler.is_compiling() or is_transformed())


def _placed(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """Values, codes, where the windows start, and the cells of the widest window."""
    lists = _lists_at_hand if is_plain(input) else _lists
    starts, stops, kernel_size = lists(tuple(input.shape[-len(places) :]), places, input.device)
    values, codes = placed.pool(input, starts, stops, placed.Places(places, kernel_size))
    return values, codes, starts, kernel_size


def _lists(
    size: tuple[int, ...], places: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Begins and ends of the windows of all axes one after the other, and the most cells along each axis."""
    axes = [bins(h, p) for h, p in zip(size, places, strict=True)]
    begins, ends = zip(*[window for axis in axes for window in axis], strict=True)
    starts, stops = (torch.tensor(cells, device=device) for cells in (begins, ends))
    return starts, stops, tuple(max(end - begin for begin, end in axis) for axis in axes)


# A network asks for the same few again and again, and making them takes longer than pooling a small map.
_lists_at_hand = lru_cache(maxsize=256)(_lists)


def _gathered(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    dims = len(places)
    if is_exporting():
        return _unrolled(input, places)
    indices = _TORCH[dims](input.detach(), places, return_indices=True)[1]
    planes = linear_maps.apply(input, _Planes(dims)) if linear_maps.lies_channels_last(input, dims) else input
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
