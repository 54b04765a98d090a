"""Max pooling on the autograd tape: only the codes are kept, and every derivative follows them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.kernels.schema import operator
from switchgrad.ops.routing import Taped, fold, gather, recorder, route, unfold

_max_pool, _max_pool_values = operator("max_pool"), operator("max_pool_values")


def pool(input: Tensor, window: Window) -> Tensor:
    """The maxima; the codes are made only if a derivative may ask for them."""
    record = recorder(input, MaxPool, _TransformedValues)
    if record is not None:
        return record(input, window)
    return _max_pool_values(input, window.numbers)


def pool_with_codes(input: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """The maxima and their codes."""
    record = recorder(input, MaxPoolWithCodes, TransformedMaxPool)
    if record is not None:
        return record(input, window)
    return _max_pool(input, window.numbers)


class MaxPool(Taped):
    """Pooling for eager execution and the compiler. Nobody asks for the codes, so they are no result of it."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, window: Window) -> Tensor:  # pyright: ignore
        values, codes = _max_pool(input, window.numbers)
        ctx.window, ctx.input_size = window, input.shape[-window.dims :]
        ctx.save_for_backward(codes)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        return route(grad, ctx.saved_tensors[0], ctx.input_size, ctx.window), None


class MaxPoolWithCodes(Taped):
    """The same with the codes as a second result; other poolings with switches derive from it."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, window: Window) -> tuple[Tensor, Tensor]:  # pyright: ignore
        values, codes = _max_pool(input, window.numbers)
        MaxPoolWithCodes.keep(ctx, input, window, codes)
        return values, codes

    @staticmethod
    def keep(ctx: Any, input: Tensor, window: Window, codes: Tensor) -> None:
        """What the backward needs."""
        ctx.window, ctx.input_size = window, input.shape[-window.dims :]
        ctx.mark_non_differentiable(codes)
        ctx.set_materialize_grads(False)  # else autograd fills a tensor of zeros as the codes' gradient, every time
        ctx.save_for_backward(codes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, None]:  # pyright: ignore
        if grad is None:
            return None, None
        return route(grad, ctx.saved_tensors[0], ctx.input_size, ctx.window), None


class TransformedMaxPool(torch.autograd.Function):
    """The same with rules for forward mode and vmap."""

    @staticmethod
    def forward(input: Tensor, window: Window) -> tuple[Tensor, Tensor]:  # pyright: ignore
        return _max_pool(input, window.numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # pyright: ignore
        input, ctx.window = inputs
        ctx.input_size = tuple(input.shape[-ctx.window.dims :])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    backward = MaxPoolWithCodes.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, _: Any) -> tuple[Tensor | None, None]:  # pyright: ignore
        if tangent is None:
            return None, None
        return gather(tangent, ctx.saved_tensors[0], ctx.window), None

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
        return TransformedMaxPool.apply(input, window)[0]  # pyright: ignore
