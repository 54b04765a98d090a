"""Convolution by Winograd's algorithm on the autograd tape: kept are the input, the weight and, behind a ReLU, the
output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.ops import composed


class WinogradConv(torch.autograd.Function):
    """``apply(input, weight, bias, padding, relu, tile)`` gives the values."""

    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], relu: bool, tile: int
    ) -> Tensor:
        values = torch.ops.switchgrad.winograd_conv(input, weight, bias, padding, relu, tile)
        ctx.padding, ctx.relu, ctx.tile = padding, relu, tile
        ctx.save_for_backward(input, weight, *((values,) if relu else ()))
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        input, weight = ctx.saved_tensors[:2]
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, ctx.saved_tensors[2], 0)
        wanted = ctx.needs_input_grad[:3]
        found = (_differentiable if composed.is_differentiated_again() else _by_tiles)(ctx, grad, input, weight, wanted)
        return *found, None, None, None


def _by_tiles(
    ctx: Any, grad: Tensor, input: Tensor, weight: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    of_input, of_weight, of_bias = wanted
    dx, dw = torch.ops.switchgrad.winograd_conv_backward(
        grad, input, weight, ctx.padding, ctx.tile, of_input, of_weight
    )
    return dx if of_input else None, dw if of_weight else None, grad.sum((0, 2, 3)) if of_bias else None


def _differentiable(
    ctx: Any, grad: Tensor, input: Tensor, weight: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """The same gradients by PyTorch's convolution, which differentiates again, though not for a batch of none."""
    if grad.numel() == 0:
        shapes = (input.shape, weight.shape, weight.shape[:1])
        return tuple(grad.sum().expand(shape) if want else None for shape, want in zip(shapes, wanted, strict=True))
    return torch.ops.aten.convolution_backward(
        grad, input, weight, [weight.shape[0]], [1, 1], ctx.padding, [1, 1], False, [0, 0], 1, list(wanted)
    )
