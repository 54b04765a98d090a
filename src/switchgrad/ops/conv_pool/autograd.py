"""Fused convolution and max pooling on the autograd tape: kept are the input, the weight and one byte a pooled cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.ops.conv_pool.reference import padded
from switchgrad.ops.routing import is_transformed, route

# As they travel to the kernels: the convolution's stride and padding (top, bottom, left, right), then the window.
Arguments = tuple[list[int], list[int], tuple[int, ...]]


class ConvMaxPool(torch.autograd.Function):
    """``apply(input, weight, bias, arguments, window, relu)`` gives the values and their codes."""

    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, arguments: Arguments, window: Window, relu: bool
    ) -> tuple[Tensor, Tensor]:
        values, codes = torch.ops.switchgrad.conv_max_pool(input, weight, bias, *arguments, relu)
        ctx.arguments, ctx.window = arguments, window
        ctx.mark_non_differentiable(codes)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, weight, codes)
        return values, codes

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore
        if grad is None:
            return (None,) * 6
        input, weight, codes = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled() or is_transformed():  # gradients may come in a batch of batches
            return *_differentiable(grad, codes, input, weight, ctx.arguments, ctx.window, wanted), None, None, None
        dx, dw, db = torch.ops.switchgrad.conv_max_pool_backward(grad, codes, input, weight, *ctx.arguments, *wanted)
        return dx if wanted[0] else None, dw if wanted[1] else None, db if wanted[2] else None, None, None, None


def _differentiable(
    grad: Tensor,
    codes: Tensor,
    input: Tensor,
    weight: Tensor,
    arguments: Arguments,
    window: Window,
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """The same gradients in steps that autograd follows, for those who differentiate them again."""
    stride, padding = arguments[:2]
    extended = padded(input, padding)
    size = [(extended.shape[2 + i] - weight.shape[2 + i]) // stride[i] + 1 for i in range(2)]
    dz = route(grad, codes, size, window)
    mask = [wanted[0], wanted[1], wanted[2]]
    dx, dw, db = torch.ops.aten.convolution_backward(
        dz, extended, weight, [weight.shape[0]], stride, [0, 0], [1, 1], False, [0, 0], 1, mask
    )
    if dx is not None:
        dx = dx[..., padding[0] : padding[0] + input.shape[2], padding[2] : padding[2] + input.shape[3]]
    return [dx, dw, db]
