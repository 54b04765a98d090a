"""Stochastic pooling and max-pooling dropout: what their kernels mean, in plain PyTorch.

The words of `ops.counted` are laid out and used here; the kernels draw the same where they need them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.ops.counted import threshold, uniform, unit_scale, words
from switchgrad.ops.layout import in_layout_of, no_winner
from switchgrad.ops.max_pool import reference as plain
from switchgrad.ops.windows import cells, wide


def stochastic_pool(input: Tensor, seed: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and switches of the windows' draws; the word of a window is that of its row-major place."""
    win = window_of(window)
    best, codes = plain.max_pool(input, window)
    drawn = words(seed.to(input.device), codes.numel()).reshape(codes.shape)
    codes = winners(input, win, uniform(drawn, wide(input).dtype), best, codes)
    return plain.max_pool_gather(input, codes, window), in_layout_of(input, codes)


def winners(input: Tensor, win: Window, samples: Tensor, best: Tensor, codes: Tensor) -> Tensor:
    """The first cell at which the running sum exceeds ``samples`` times the sum; ``codes`` where no draw decides."""
    best, input = wide(best), wide(input)
    scale = unit_scale(best)

    def weight(cell: Tensor) -> Tensor:
        return torch.where(best > 0, cell.clamp_min(0) * scale, (cell > -torch.inf).to(cell.dtype))

    total, running = torch.zeros_like(best), torch.zeros_like(best)
    for _, cell in cells(input, win, -torch.inf):
        total = total + weight(cell)
    limit, undecided = samples * total, best.isfinite()
    for offset, cell in cells(input, win, -torch.inf):
        running = running + weight(cell)
        passes = undecided & (running > limit)
        codes, undecided = torch.where(passes, offset, codes), undecided & ~passes
    return codes


def max_pool_dropout(input: Tensor, seed: Tensor, p: float, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and switches of the largest that is left; the word of a cell is that of its row-major place."""
    kept = (words(seed.to(input.device), input.numel()) >= threshold(p)).reshape(input.shape)
    _, codes = plain.max_pool(torch.where(kept, input, 0), window)
    won = plain.max_pool_gather(kept.to(torch.uint8), codes, window)
    codes = torch.where(won > 0, codes, no_winner(codes.dtype))
    return plain.max_pool_gather(input, codes, window), in_layout_of(input, codes)
