"""ReLU and max pooling on the autograd tape: the codes alone are kept, and dead windows have none to follow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.ops.max_pool.autograd import MaxPool, TransformedMaxPool
from switchgrad.ops.routing import fold, function, is_watched, unfold


def pool(input: Tensor, window: Window) -> Tensor:
    """The rectified maxima; the codes are made only if a derivative may ask for them."""
    if is_watched(input):
        return function(_ReLUMaxPool, _TransformedReLUMaxPool).apply(input, window)[0]
    return torch.ops.switchgrad.relu_max_pool_values(input, window.numbers)


def pool_with_codes(input: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """The rectified maxima and their codes."""
    if is_watched(input):
        return function(_ReLUMaxPool, _TransformedReLUMaxPool).apply(input, window)
    return torch.ops.switchgrad.relu_max_pool(input, window.numbers)


class _ReLUMaxPool(MaxPool):
    @staticmethod
    def forward(ctx: Any, input: Tensor, window: Window) -> tuple[Tensor, Tensor]:  # pyright: ignore
        values, codes = torch.ops.switchgrad.relu_max_pool(input, window.numbers)
        MaxPool.keep(ctx, input, window, codes)
        return values, codes


class _TransformedReLUMaxPool(TransformedMaxPool):
    @staticmethod
    def forward(input: Tensor, window: Window) -> tuple[Tensor, Tensor]:  # pyright: ignore
        return torch.ops.switchgrad.relu_max_pool(input, window.numbers)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, input: Tensor, window: Window
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        size, axes = info.batch_size, input.dim() - 1
        values, codes = pool_with_codes(fold(input, in_dims[0], size, window.dims), window)
        return (unfold(values, size, axes), unfold(codes, size, axes)), (0, 0)
