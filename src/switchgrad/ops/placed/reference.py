"""Max pooling over windows at given places in plain PyTorch: what it means, and what devices without a kernel run.

Ties go to the first cell in row-major order, NaN wins, of several NaN the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from switchgrad.ops.layout import code_dtype, in_layout_of
from switchgrad.ops.windows import wide


def placed_max_pool(
    input: Tensor, starts: Tensor, ends: Tensor | None, places: Sequence[int], kernel_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The largest value of each window and its row-major offset in a box of ``kernel_size`` cells.

    Window p of an axis has the cells from its start up to its end, by default ``kernel_size`` of them, or those that
    lie in the input. ``starts`` and ``ends`` hold the places of all axes one after the other, for all maps (one axis)
    or for each (the axes before the spatial ones, then the places).
    """
    dtype = code_dtype(math.prod(kernel_size))
    best = codes = input
    for offset, x, inside in _cells(input, starts, ends, places, kernel_size):
        if offset == 0:
            best, codes = x, torch.zeros(x.shape, dtype=dtype, device=x.device)
            continue
        wins = (x > best) | x.isnan()
        wins = wins if inside is None else wins & inside
        best, codes = torch.where(wins, x, best), torch.where(wins, offset, codes)
    return in_layout_of(input, best), in_layout_of(input, codes.to(dtype))


def placed_max_pool_route(
    pooled: Tensor,
    codes: Tensor,
    starts: Tensor,
    ends: Tensor | None,  # noqa: ARG001
    input_size: Sequence[int],
    kernel_size: Sequence[int],
) -> Tensor:
    """Every pooled number added to the cell that won its window; the adjoint of taking the winners' numbers."""
    total = put_in_order(wide(pooled), codes, starts, kernel_size, input_size)
    return in_layout_of(codes, total.to(pooled.dtype))


def indices(codes: Tensor, starts: Tensor, kernel_size: Sequence[int], size: Sequence[int]) -> Tensor:
    """Flat indices of the winners."""
    rest = codes.to(torch.int32)
    away = torch.zeros((), dtype=torch.int32, device=codes.device)
    for axis in reversed(range(len(size))):
        down = rest.div(kernel_size[axis], rounding_mode="floor")
        away = away + (rest - down * kernel_size[axis]) * math.prod(size[axis + 1 :])
        rest = down
    return _first_cells(starts, codes.shape[-len(size) :], size) + away


def codes_of(
    index: Tensor, starts: Tensor, places: Sequence[int], kernel_size: Sequence[int], size: Sequence[int]
) -> Tensor:
    """The inverse of `indices`."""
    away = (index - _first_cells(starts, places, size)).to(torch.int32)
    codes = torch.zeros((), dtype=torch.int32, device=index.device)
    for axis in range(len(size)):
        step = math.prod(size[axis + 1 :])
        cell = away.div(step, rounding_mode="floor")
        away = away - cell * step
        codes = codes * kernel_size[axis] + cell
    return codes.to(code_dtype(math.prod(kernel_size)))


def put_in_order(
    values: Tensor, codes: Tensor, starts: Tensor, kernel_size: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Each value added to the cell of its winner, deterministic on every device."""
    index = indices(codes, starts, kernel_size, size)
    if values.device.type == "cpu":
        return _put(values, index, size)
    # Other devices add in any order, but at one offset no two windows meet in a cell.
    total = _put(torch.where(codes == 0, values, 0), index, size)
    for offset in range(1, math.prod(kernel_size)):
        total = total + _put(torch.where(codes == offset, values, 0), index, size)
    return total


def _put(values: Tensor, index: Tensor, size: Sequence[int]) -> Tensor:
    """Each value added at its index; the CPU adds in row-major order of the values."""
    dims = len(size)
    total = values.new_zeros((*values.shape[:-dims], math.prod(size)))
    return total.scatter_add(-1, index.flatten(-dims), values.flatten(-dims)).unflatten(-1, tuple(size))


def _first_cells(starts: Tensor, places: Sequence[int], size: Sequence[int]) -> Tensor:
    """The flat index of each window's first cell."""
    first = torch.zeros((), dtype=torch.int64, device=starts.device)
    for axis, start in enumerate(starts.split(list(places), -1)):
        first = first + _along(start * math.prod(size[axis + 1 :]), axis, len(size))
    return first


def _cells(
    input: Tensor, starts: Tensor, ends: Tensor | None, places: Sequence[int], kernel_size: Sequence[int]
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """For each offset in the box: the input there, and which of those cells their windows have (None: all)."""
    dims = len(kernel_size)
    size = input.shape[-dims:]
    first = starts.split(list(places), -1)
    last = [None] * dims if ends is None else ends.split(list(places), -1)
    plane = input.flatten(-dims)
    for offset, cell in enumerate(itertools.product(*map(range, kernel_size))):
        at = [start + c for start, c in zip(first, cell, strict=True)]
        inside = torch.ones((), dtype=torch.bool, device=input.device)
        for axis, (where, end, h) in enumerate(zip(at, last, size, strict=True)):
            inside = inside & _along(where < (h if end is None else end), axis, dims)
        if starts.dim() == 1:
            x = input
            for axis, (where, h) in enumerate(zip(at, size, strict=True)):
                x = x.index_select(axis - dims, where.clamp_max(h - 1))
        else:
            flat = torch.zeros((), dtype=torch.int64, device=input.device)
            for axis, (where, h) in enumerate(zip(at, size, strict=True)):
                flat = flat + _along(where.clamp_max(h - 1), axis, dims) * math.prod(size[axis + 1 :])
            x = plane.gather(-1, flat.flatten(-dims)).reshape(flat.shape)
        yield offset, x, inside


def _along(places: Tensor, axis: int, dims: int) -> Tensor:
    """A vector of places (or one a map) as an array that varies along one spatial axis."""
    return places.reshape(*places.shape[:-1], *[1] * axis, places.shape[-1], *[1] * (dims - 1 - axis))
