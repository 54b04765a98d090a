"""Average pooling: what it means, in plain PyTorch.

For a window of cells ``x[0], x[1], ...``::

    y = (sum of the cells inside the input) / divisor

The divisor is the number given, or else the number of cells: with ``count_include_pad`` those inside the padded input
(cells that ceil mode adds beyond the padding never count), otherwise those inside the input. A window that counts no
cell gives 0. Half-precision sums are taken in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool.reference import cells, flat


def wide(dtype: torch.dtype) -> torch.dtype:
    """What numbers of a dtype are added up in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def divisors(size: Sequence[int], win: Window, include: bool, divisor: float, like: Tensor) -> Tensor:
    """What the sum of each window is divided by: one number for each place."""
    result = torch.ones((), dtype=wide(like.dtype), device=like.device)
    for axis, places in enumerate(win.output_size(size)):
        (begin, end), h = win.padding[axis], size[axis]
        start = torch.arange(places, device=like.device) * win.stride[axis] - begin
        at = start[:, None] + torch.arange(win.kernel_size[axis], device=like.device) * win.dilation[axis]
        counted = (at < h + end) if include else (at >= 0) & (at < h)
        result = result.unsqueeze(-1) * counted.sum(1).clamp_min(1).to(result.dtype)
    return torch.full_like(result, divisor) if divisor else result


def avg_pool(input: Tensor, window: Sequence[int], include: bool, divisor: float) -> Tensor:
    """Averages of all windows."""
    win = window_of(window)
    size = input.shape[-win.dims :]
    plane = input.flatten(-win.dims).to(wide(input.dtype))
    total = plane.new_zeros((*input.shape[: -win.dims], *win.output_size(size)))
    for _, at, inside in cells(size, win, input.device):
        total = total + torch.where(inside, plane[..., flat(at, size)], 0)
    return in_layout_of(input, (total / divisors(size, win, include, divisor, input)).to(input.dtype))


def avg_pool_spread(
    pooled: Tensor,
    input_size: Sequence[int],
    window: Sequence[int],
    include: bool,
    divisor: float,
    channels_last: bool,
) -> Tensor:
    """Each pooled number by its divisor, added to every cell of its window: the adjoint of `avg_pool`."""
    win = window_of(window)
    shares = pooled.to(wide(pooled.dtype)) / divisors(input_size, win, include, divisor, pooled)
    total = shares.new_zeros((*pooled.shape[: -win.dims], math.prod(input_size)))
    for _, at, inside in reversed(list(cells(input_size, win, pooled.device))):
        # Within one cell of the window no two windows meet, so index_add has one addend for each index.
        share = torch.where(inside, shares, 0).flatten(-win.dims)
        total = total + torch.zeros_like(total).index_add(-1, flat(at, input_size).flatten(), share)
    return laid_out(total.reshape(*pooled.shape[: -win.dims], *input_size).to(pooled.dtype), channels_last)


def laid_out(tensor: Tensor, channels_last: bool) -> Tensor:
    """``tensor`` channels last, or row-major."""
    if not channels_last:
        return tensor.contiguous()
    return tensor.clone(memory_format=torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d)
