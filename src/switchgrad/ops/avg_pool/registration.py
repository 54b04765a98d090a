"""Registers what average pooling means for devices without a kernel of their own, and its shapes for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import window_of
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.avg_pool import reference
from switchgrad.ops.layout import empty_in_layout_of


def _avg_pool(input: Tensor, window: Sequence[int], *_: Any) -> Tensor:
    win = window_of(window)
    shape = (*input.shape[: -win.dims], *win.output_size(input.shape[-win.dims :]))
    return empty_in_layout_of(input, shape, input.dtype)


def _avg_pool_spread(pooled: Tensor, input_size: Sequence[int], *args: Any) -> Tensor:
    return empty_spread(pooled, input_size, args[-1])


def empty_spread(pooled: Tensor, input_size: Sequence[int], channels_last: bool) -> Tensor:
    """What the adjoint of a pooling makes, without its numbers."""
    shape = (*pooled.shape[: -len(input_size)], *input_size)
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    return pooled.new_empty(shape).to(memory_format=last) if channels_last else pooled.new_empty(shape)


LIBRARY.impl("avg_pool", reference.avg_pool, "CompositeExplicitAutograd")
LIBRARY.impl("avg_pool_spread", reference.avg_pool_spread, "CompositeExplicitAutograd")
torch.library.register_fake("switchgrad::avg_pool", _avg_pool, lib=LIBRARY)
torch.library.register_fake("switchgrad::avg_pool_spread", _avg_pool_spread, lib=LIBRARY)
