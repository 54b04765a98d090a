"""Sums over windows, and whether numbers may be looked at before they are worked with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from switchgrad.geometry import Window
from switchgrad.ops import linear_maps
from switchgrad.ops.avg_pool import AveragePooling
from switchgrad.ops.exporting import is_exporting
from switchgrad.ops.routing import is_transformed

MOST_EXPONENT = 40.0  # e^40 beside e^-40: normal float32 numbers, and so are sums of many and quotients of two


def window_sums(input: Tensor, win: Window) -> Tensor:
    """The sum of the cells of each window that lie inside the input."""
    return linear_maps.apply(input, AveragePooling(win, True, 1))


def window_means(input: Tensor, win: Window) -> Tensor:
    """The mean of the cells of each window that lie inside the input; NaN where none does."""
    inside = input.new_ones((1, *input.shape[-win.dims :]))
    return window_sums(input, win) / window_sums(inside, win)


def may_be_read(*tensors: Tensor) -> bool:
    """Whether Python may decide by what is in these: they are on the CPU, and nobody traces or transforms."""
    traced = (
        torch.compiler.is_compiling() or is_exporting() or is_transformed() or torch._C._len_torch_dispatch_stack() > 0  # pyright: ignore[reportPrivateUsage]
    )
    return not traced and all(type(t) in (Tensor, Parameter) and t.is_cpu and t.numel() > 0 for t in tensors)
