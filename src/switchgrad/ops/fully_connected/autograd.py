"""Fully connected layers on the autograd tape: kept are the input, the weight and, behind a ReLU, the output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.ops import composed

Wanted = tuple[bool, bool, bool]


class Linear(torch.autograd.Function):
    """``apply(input, weight, bias, relu)`` gives the values."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:  # pyright: ignore
        values = torch.ops.switchgrad.linear(input, weight, bias, relu)
        ctx.relu = relu
        ctx.save_for_backward(input, weight, *((values,) if relu else ()))
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        input, weight, *outputs = ctx.saved_tensors
        found = gradients(grad, outputs[0] if outputs else None, input, weight, ctx.needs_input_grad[:3])
        return *found, None


def gradients(
    grad: Tensor, output: Tensor | None, input: Tensor, weight: Tensor, wanted: Wanted
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of input, weight and bias, each on its own if asked so; None for what is not wanted.

    ``output`` is that of the ReLU, or None where there was none. Differentiable once more where somebody watches.
    """
    if composed.is_differentiated_again():
        return by_products(grad, output, input, weight, wanted)
    dx, dw, db = torch.ops.switchgrad.linear_backward(grad, output, input, weight, *wanted)
    of_input, of_weight, of_bias = wanted
    return dx if of_input else None, dw if of_weight else None, db if of_bias else None


def by_products(
    grad: Tensor, output: Tensor | None, input: Tensor, weight: Tensor, wanted: Wanted
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The same gradients by PyTorch's products, which differentiate again."""
    if output is not None:
        grad = torch.ops.aten.threshold_backward(grad, output, 0)
    of_input, of_weight, of_bias = wanted
    return (
        grad @ weight if of_input else None,
        grad.t() @ input if of_weight else None,
        grad.sum(0) if of_bias else None,
    )
