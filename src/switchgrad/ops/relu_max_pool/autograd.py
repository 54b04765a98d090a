"""ReLU and max pooling on the autograd tape: the codes alone are kept, and dead windows have none to follow."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.kernels.schema import operator
from switchgrad.ops.max_pool.autograd import MaxPool, MaxPoolWithCodes, TransformedMaxPool
from switchgrad.ops.routing import fold, recorder, unfold

_relu_max_pool, _relu_max_pool_values = operator("relu_max_pool"), operator("relu_max_pool_values")


def pool(input: Tensor, window: Window) -> Tensor:
    """The rectified maxima; the codes are made only if a derivative may ask for them."""
    record = recorder(input, _ReLUMaxPool, _TransformedValues)
    if record is not None:
        return record(input, window)
    return _relu_max_pool_values(input, window.numbers)


def pool_with_codes(input: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """The rectified maxima and their codes."""
    record = recorder(input, _ReLUMaxPoolWithCodes, _TransformedReLUMaxPool)
    if record is not None:
        return record(input, window)
    return _relu_max_pool(input, window.numbers)


class _ReLUMaxPool(MaxPool):
    @staticmethod
    def forward(ctx: Any, input: Tensor, window: Window) -> Tensor:  # pyright: ignore
        values, codes = _relu_max_pool(input, window.numbers)
        ctx.window, ctx.input_size = window, input.shape[-window.dims :]
        ctx.save_for_backward(codes)
        return values


class _ReLUMaxPoolWithCodes(MaxPoolWithCodes):
    @staticmethod
    def forward(ctx: Any, input: Tensor, window: Window) -> tuple[Tensor, Tensor]:  # pyright: ignore
        values, codes = _relu_max_pool(input, window.numbers)
        MaxPoolWithCodes.keep(ctx, input, window, codes)
        return values, codes


class _TransformedReLUMaxPool(TransformedMaxPool):
    @staticmethod
    def forward(input: Tensor, window: Window) -> tuple[Tensor, Tensor]:  # pyright: ignore
        return _relu_max_pool(input, window.numbers)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, input: Tensor, window: Window
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        size, axes = info.batch_size, input.dim() - 1
        values, codes = pool_with_codes(fold(input, in_dims[0], size, window.dims), window)
        return (unfold(values, size, axes), unfold(codes, size, axes)), (0, 0)


class _TransformedValues:
    """The values alone, where a transform needs the codes as a result."""

    @staticmethod
    def apply(input: Tensor, window: Window) -> Tensor:
        return _TransformedReLUMaxPool.apply(input, window)[0]  # pyright: ignore
