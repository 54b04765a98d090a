"""Sums of windows under one set of weights for every channel, and their adjoint: what they mean, in plain PyTorch.

Along each axis the windows look at padded cells, of which cell t lies on cell ``source[t]`` of the input, or on nothing
(-1)::

    y[place] = factor[place] * sum over window cells c of weights[c] * x[source[place * stride + c * dilation]]

A place whose factor is 0 gives 0, whatever it sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.windows import wide

ZEROS, REPLICATE, REFLECT = 0, 1, 2


def source(size: int, before: int, reach: int, border: int) -> Tensor:
    """The input cell of each padded cell.

    >>> source(3, 2, 7, REFLECT).tolist(), source(3, 2, 7, ZEROS).tolist()
    ([2, 1, 0, 1, 2, 1, 0], [-1, -1, 0, 1, 2, -1, -1])
    """
    at = torch.arange(-before, reach - before)
    if border == REPLICATE:
        return at.clamp(0, size - 1)
    if border == REFLECT:
        return torch.where(at < 0, -at, torch.where(at >= size, 2 * (size - 1) - at, at))
    return torch.where((at < 0) | (at >= size), -1, at)


def filter_pool(
    input: Tensor,
    weights: Tensor,
    factors: Tensor | None,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
    places: Sequence[int],
    border: int,
) -> Tensor:
    """The sums."""
    laid = wide(input)
    for axis, cells in enumerate(_sources(input, kernel_size, stride, before, dilation, places, border)):
        along = axis - len(kernel_size)
        laid = laid.index_select(along, cells.clamp_min(0))
        laid = torch.where(_along(cells, axis, len(kernel_size)) >= 0, laid, 0)
    total = laid.new_zeros((*input.shape[: -len(kernel_size)], *places))
    for weight, at in _cells(weights, kernel_size, stride, dilation, places):
        total = total + weight * laid[at]
    return in_layout_of(input, _scaled(total, factors).to(input.dtype))


def filter_pool_spread(
    pooled: Tensor,
    input_size: Sequence[int],
    weights: Tensor,
    factors: Tensor | None,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
    border: int,
    channels_last: bool,
) -> Tensor:
    """The adjoint: the padded cells get their shares, and the input cells those of the padded cells on them."""
    dims = len(kernel_size)
    lead, places = pooled.shape[:-dims], pooled.shape[-dims:]
    grads = _scaled(wide(pooled), factors)
    reach = [(p - 1) * s + d * (r - 1) + 1 for p, s, d, r in zip(places, stride, dilation, kernel_size, strict=True)]
    laid = grads.new_zeros((*lead, *reach))
    for weight, at in _cells(weights, kernel_size, stride, dilation, places):
        laid[at] += weight * grads
    like = laid.new_empty((1, *input_size))
    for axis, cells in enumerate(_sources(like, kernel_size, stride, before, dilation, places, border)):
        inside = (cells >= 0).nonzero().flatten()
        shape = list(laid.shape)
        shape[axis - dims] = input_size[axis]
        taken = laid.index_select(axis - dims, inside)
        laid = laid.new_zeros(shape).index_add(axis - dims, cells[inside], taken)
    layout = (
        torch.contiguous_format
        if not channels_last or len(lead) != 2
        else {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    )
    return laid.to(pooled.dtype).contiguous(memory_format=layout)


def _sources(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
    places: Sequence[int],
    border: int,
) -> Iterator[Tensor]:
    size = input.shape[-len(kernel_size) :]
    for h, r, s, b, d, p in zip(size, kernel_size, stride, before, dilation, places, strict=True):
        yield source(h, b, (p - 1) * s + d * (r - 1) + 1, border).to(input.device)


def _cells(
    weights: Tensor, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], places: Sequence[int]
) -> Iterator[tuple[Tensor, Any]]:
    """For each window cell its weight, and where it lies in the padded input for every place."""
    for weight, cell in zip(weights.flatten(), itertools.product(*map(range, kernel_size)), strict=True):
        steps = [
            slice(c * d, c * d + (p - 1) * s + 1, s) for c, d, p, s in zip(cell, dilation, places, stride, strict=True)
        ]
        yield weight, (..., *steps)


def _scaled(total: Tensor, factors: Tensor | None) -> Tensor:
    return total if factors is None else torch.where(factors == 0, 0, total * factors)


def _along(cells: Tensor, axis: int, dims: int) -> Tensor:
    return cells.reshape(-1, *[1] * (dims - 1 - axis))
