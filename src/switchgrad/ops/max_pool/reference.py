"""Max pooling with switches: what it means, in plain PyTorch.

For a window of cells ``x[0], x[1], ...`` in row-major order::

    best, winner = -inf, first cell inside the input
    for offset, x in enumerate(window):
        if x > best or x is NaN:
            best, winner = x, offset

so a tie keeps the first cell, NaN wins, and of several NaN the last. Cells in the padding take no part; a window that
holds none but such cells gives -inf and the switch 255 (-1 where switches are wider than a byte).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.ops.layout import code_dtype, in_layout_of, no_winner


def lowest(dtype: torch.dtype) -> float:
    """What every cell beats or equals: -inf, or the smallest integer."""
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def cells(size: Sequence[int], win: Window, device: torch.device) -> Iterator[tuple[int, list[Tensor], Tensor]]:
    """For each window cell in row-major order: its offset, its coordinate along each axis, and where it is inside.

    Coordinates are one vector an axis (one entry a place); "inside" has the shape of the pooled map.
    """
    places = win.output_size(size)
    starts = [
        torch.arange(p, device=device) * s - b for p, s, (b, _) in zip(places, win.stride, win.padding, strict=True)
    ]
    for offset, cell in enumerate(itertools.product(*map(range, win.kernel_size))):
        at = [start + c * d for start, c, d in zip(starts, cell, win.dilation, strict=True)]
        inside = torch.ones((), dtype=torch.bool, device=device)
        for where, h in zip(at, size, strict=True):
            inside = inside.unsqueeze(-1) & (where >= 0) & (where < h)
        yield offset, [w.clamp(0, h - 1) for w, h in zip(at, size, strict=True)], inside


def flat(at: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The row-major index into ``size`` of each combination of coordinates."""
    index = at[0]
    for where, h in zip(at[1:], size[1:], strict=True):
        index = index.unsqueeze(-1) * h + where
    return index


def max_pool(input: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and switches."""
    win = window_of(window)
    size = input.shape[-win.dims :]
    plane = input.flatten(-win.dims)
    shape = (*input.shape[: -win.dims], *win.output_size(size))
    dtype = code_dtype(win.cells)
    best = input.new_full(shape, lowest(input.dtype))
    codes = torch.full(shape, no_winner(dtype), dtype=dtype, device=input.device)
    for offset, at, inside in cells(size, win, input.device):
        x = plane[..., flat(at, size)]
        wins = (x > best) | (codes == no_winner(dtype))
        if x.dtype.is_floating_point:
            wins |= x.isnan()
        wins &= inside
        best = torch.where(wins, x, best)
        codes = torch.where(wins, offset, codes).to(dtype)
    return in_layout_of(input, best), in_layout_of(input, codes)


def max_pool_values(input: Tensor, window: Sequence[int]) -> Tensor:
    """Values alone."""
    return max_pool(input, window)[0]


def max_pool_route(pooled: Tensor, codes: Tensor, input_size: Sequence[int], window: Sequence[int]) -> Tensor:
    """Each pooled number added to the cell that won; cell by cell of the window, so the order is fixed."""
    win = window_of(window)
    lead = pooled.shape[: -win.dims]
    exact = torch.float32 if pooled.dtype in (torch.float16, torch.bfloat16) else pooled.dtype
    total = torch.zeros((*lead, math.prod(input_size)), dtype=exact, device=pooled.device)
    for offset, at, inside in reversed(list(cells(input_size, win, pooled.device))):
        won = torch.where((codes == offset) & inside, pooled, 0).to(exact)
        # Within one cell of the window no two windows meet, so index_add has one addend for each index.
        here = torch.zeros_like(total).index_add(-1, flat(at, input_size).flatten(), won.flatten(-win.dims))
        total = total + here
    return in_layout_of(codes, total.to(pooled.dtype).reshape(*lead, *input_size))


def max_pool_gather(input: Tensor, codes: Tensor, window: Sequence[int]) -> Tensor:
    """The input at each winner, 0 where none won."""
    win = window_of(window)
    index = max_pool_indices(codes, input.shape[-win.dims :], window)
    taken = input.flatten(-win.dims).gather(-1, index.clamp_min(0).flatten(-win.dims)).reshape(codes.shape)
    return in_layout_of(codes, torch.where(index < 0, 0, taken).to(input.dtype))


def max_pool_indices(codes: Tensor, input_size: Sequence[int], window: Sequence[int]) -> Tensor:
    """PyTorch's flat indices, -1 where none won."""
    index = torch.full_like(codes, -1, dtype=torch.int64)
    for offset, at, inside in cells(input_size, window_of(window), codes.device):
        index = torch.where((codes == offset) & inside, flat(at, input_size), index)
    return in_layout_of(codes, index)


def max_unpool(values: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """Each value at its index, 0 elsewhere; where several name one cell, the last in row-major order stays."""
    dims = len(output_size)
    lead = values.shape[:-dims]
    index, value = indices.flatten(-dims), values.flatten(-dims)
    order = torch.arange(index.shape[-1], device=values.device).expand_as(index)
    last = torch.full((*lead, math.prod(output_size)), -1, device=values.device)
    last = last.scatter_reduce(-1, index.clamp_min(0), torch.where(index < 0, -1, order), "amax")
    placed = torch.where(last < 0, 0, value.gather(-1, last.clamp_min(0))).to(values.dtype)
    return placed.reshape(*lead, *output_size)


def max_unpool_pick(tensor: Tensor, indices: Tensor, dims: int) -> Tensor:
    """What ``tensor`` holds at each index, 0 where the index is -1 or is named again later: unpooling's adjoint."""
    index = indices.flatten(-dims)
    order = torch.arange(index.shape[-1], device=indices.device).expand_as(index)
    cells = tensor.flatten(-dims)
    last = torch.full(cells.shape, -1, device=indices.device)
    last = last.scatter_reduce(-1, index.clamp_min(0), torch.where(index < 0, -1, order), "amax")
    stayed = (index >= 0) & (last.gather(-1, index.clamp_min(0)) == order)
    return torch.where(stayed, cells.gather(-1, index.clamp_min(0)), 0).reshape(indices.shape).to(tensor.dtype)
