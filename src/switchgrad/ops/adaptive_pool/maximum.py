"""Adaptive max pooling where windows differ in size: the winners' places first, then their numbers.

Once the winners are known pooling is a gather, which PyTorch differentiates at every order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.ops import linear
from switchgrad.ops.adaptive_pool.average import bins
from switchgrad.ops.layout import following


def pool_bins(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The maxima of adaptive windows and PyTorch's flat indices of where they stood."""
    dims = len(places)
    indices = winners(input.detach(), places)
    cells = linear.apply(input, _Planes(dims)).flatten(-dims)
    values = cells.gather(-1, indices.flatten(-dims)).reshape(indices.shape)
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


def winners(input: Tensor, places: tuple[int, ...]) -> Tensor:
    """Flat indices of the first maximum (of several NaN the last) of each window, row-major."""
    size = tuple(input.shape[-len(places) :])
    best, where = input, torch.arange(math.prod(size), device=input.device)
    where = where.reshape(size).expand(input.shape)
    # Along the innermost axis first: row-major order compares the outer axes first, so the winner of the rows' winners
    # is the winner of the window, for ties and NaN alike.
    for axis in reversed(range(len(places))):
        best, where = _along(best, where, axis - len(places), bins(size[axis], places[axis]))
    return where.contiguous()


def _along(values: Tensor, where: Tensor, axis: int, windows: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The winners among values that lie along one axis, and what ``where`` says of them."""
    begins = torch.tensor([begin for begin, _ in windows], device=values.device)
    lasts = torch.tensor([end - 1 for _, end in windows], device=values.device)
    best, winner = values.index_select(axis, begins), where.index_select(axis, begins)
    for step in range(1, max(end - begin for begin, end in windows)):
        at = torch.minimum(begins + step, lasts)  # a window that has no more cells meets its last again
        value = values.index_select(axis, at)
        wins = (value > best) | (value != value)
        best, winner = torch.where(wins, value, best), torch.where(wins, where.index_select(axis, at), winner)
    return best, winner
