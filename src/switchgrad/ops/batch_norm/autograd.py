"""Batch normalisation, ReLU and max pooling on the tape: input, statistics and codes are kept, no activation is."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.ops import composed
from switchgrad.ops.max_pool.autograd import pool


def chain(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    window: Window | None,
) -> Tensor:
    """The same as single operators, for derivatives that the fused ones do not have; updates the running ones."""
    values = F.batch_norm(input, mean, var, weight, bias, training, momentum, eps).relu()
    return values if window is None else pool(values, window)


def _again(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, weight, bias, statistics = ctx.saved_tensors[:4]
    mean, var = (None, None) if ctx.training else statistics.to(ctx.kept_dtype).detach()

    def function(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return chain(input, weight, bias, mean, var, ctx.training, 0.0, ctx.eps, ctx.window)

    return composed.gradients(function, (input, weight, bias), grad)


def _asked(ctx: Any, gradients: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor | None, ...]:
    return tuple(t if asked else None for t, asked in zip(gradients, ctx.needs_input_grad, strict=False))


class BatchNormReLU(torch.autograd.Function):
    """``apply(input, weight, bias, mean, var, training, eps)`` gives activations and statistics."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, *args: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore
        weight, bias, mean, _, ctx.training, ctx.eps = args
        output, statistics = torch.ops.switchgrad.batch_norm_relu(input, *args)
        ctx.window, ctx.kept_dtype = None, None if mean is None else mean.dtype
        ctx.mark_non_differentiable(statistics)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, weight, bias, statistics)
        return output, statistics

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore
        if grad is None:
            return (None,) * 7
        if composed.is_differentiated_again():
            return (*_again(ctx, grad), *(None,) * 4)
        kept = (*ctx.saved_tensors, ctx.training, ctx.eps)
        return (*_asked(ctx, torch.ops.switchgrad.batch_norm_relu_backward(grad, *kept)), *(None,) * 4)


class BatchNormReLUMaxPool(torch.autograd.Function):
    """``apply(input, weight, bias, mean, var, training, eps, window)`` gives pooled values, codes and statistics."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore
        weight, bias, mean, _, ctx.training, ctx.eps, ctx.window = args
        values, codes, statistics = torch.ops.switchgrad.batch_norm_relu_max_pool(input, *args[:-1], ctx.window.numbers)
        ctx.kept_dtype = None if mean is None else mean.dtype
        ctx.mark_non_differentiable(codes, statistics)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(input, weight, bias, statistics, codes)
        return values, codes, statistics

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore
        if grad is None:
            return (None,) * 8
        if composed.is_differentiated_again():
            return (*_again(ctx, grad), *(None,) * 5)
        input, weight, bias, statistics, codes = ctx.saved_tensors
        gradients = torch.ops.switchgrad.batch_norm_relu_max_pool_backward(
            grad, input, codes, weight, bias, statistics, ctx.training, ctx.eps, ctx.window.numbers
        )
        return (*_asked(ctx, gradients), *(None,) * 5)
