"""Max pooling over windows at given places on CUDA, by the kernels in `placed_pool_kernels`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.gpu import placed_pool_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch, lowest
from switchgrad.gpu.maps import Maps, Tiles, cut, is_wide, three
from switchgrad.layout import code_dtype, empty_in_layout_of


def placed_max_pool(
    input: Tensor, starts: Tensor, ends: Tensor | None, places: Sequence[int], kernel_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Values, and codes in a box of ``kernel_size`` cells, of windows from ``starts`` up to ``ends``."""
    dims = len(places)
    shape = (*input.shape[:-dims], *(int(count) for count in places))
    values = empty_in_layout_of(input, shape, input.dtype)
    codes = empty_in_layout_of(input, shape, code_dtype(math.prod(kernel_size)))
    given, result = Maps.of(input, dims), Maps.of(values, dims)
    first = _three_axes(starts, 3 - dims, 0)
    last = _three_axes(_ends(starts, ends, input.shape[-dims:], shape[-dims:], kernel_size), 3 - dims, 1)
    tiles = Tiles.over(result)
    launch(
        kernels.pool,
        tiles.grid,
        input,
        first,
        last,
        values,
        codes,
        _apart(first),
        tiles.rows,
        tiles.columns,
        given.channels,
        result.size,
        given.strides,
        K=three(kernel_size, 1),
        LOWEST=lowest(input.dtype),
        ACC=accumulator(input.dtype),
        **cut(tiles, result, is_wide(given, result)),
    )
    return values, codes


def placed_max_pool_route(
    pooled: Tensor,
    codes: Tensor,
    starts: Tensor,
    ends: Tensor | None,
    input_size: Sequence[int],
    kernel_size: Sequence[int],
) -> Tensor:
    """Each pooled number added to the cell that won its window, in the layout of the codes."""
    dims = len(kernel_size)
    size = tuple(int(cells) for cells in input_size)
    total = empty_in_layout_of(codes, (*codes.shape[:-dims], *size), pooled.dtype)
    sent, coded, result = (Maps.of(t, dims) for t in (pooled, codes, total))
    last = _ends(starts, ends, size, codes.shape[-dims:], kernel_size)
    first = _three_axes(starts, 3 - dims, 0)
    low, high = _holders(first, _three_axes(last, 3 - dims, 1), coded.size, result.size)
    tiles = Tiles.over(result)
    launch(
        kernels.route,
        tiles.grid,
        pooled,
        codes,
        first,
        low,
        high,
        total,
        _apart(first),
        _apart(low),
        tiles.rows,
        tiles.columns,
        result.channels,
        result.size,
        coded.size,
        sent.strides,
        coded.strides,
        K=three(kernel_size, 1),
        ACC=accumulator(pooled.dtype),
        **cut(tiles, result, is_wide(sent, coded, result)),
    )
    return total


def _ends(
    starts: Tensor, ends: Tensor | None, size: Sequence[int], places: Sequence[int], kernel_size: Sequence[int]
) -> Tensor:
    """One past the last cell of each window: as given, or as far as the box and the input reach."""
    if ends is not None:
        return ends
    axes = zip(starts.split([int(count) for count in places], -1), kernel_size, size, strict=True)
    return torch.cat([(start + cells).clamp_max(int(most)) for start, cells, most in axes], -1)


def _three_axes(table: Tensor, missing: int, place: int) -> Tensor:
    """A list with the one place (0, or its end 1) of each axis that a signal or a picture does not have in front."""
    front = table.new_full((*table.shape[:-1], missing), place)
    return torch.cat([front, table], -1).contiguous()


def _apart(table: Tensor) -> int:
    """How far the lists of two maps lie apart."""
    return table.shape[-1] if table.dim() > 1 else 0


def _holders(first: Tensor, last: Tensor, places: Sequence[int], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """For each cell of each axis the first place whose window holds it, and one past the last (both 0: none)."""
    low: list[Tensor] = []
    high: list[Tensor] = []
    for start, end, cells in zip(first.split(list(places), -1), last.split(list(places), -1), size, strict=True):
        cell = torch.arange(cells, device=start.device)
        holds = ((start.unsqueeze(-1) <= cell) & (cell < end.unsqueeze(-1))).to(torch.int32)
        some = holds.amax(-2)
        low.append(torch.where(some > 0, holds.argmax(-2), 0))
        high.append(torch.where(some > 0, start.shape[-1] - holds.flip(-2).argmax(-2), 0))
    return torch.cat(low, -1).contiguous(), torch.cat(high, -1).contiguous()
