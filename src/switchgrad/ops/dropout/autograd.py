"""Dropout on the tape: of the mask nothing is kept but the seed, and backward draws the same words again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Dropout(torch.autograd.Function):
    """``apply(input, seed, p)``. Linear once the seed is fixed: its backward is itself, at every order."""

    generate_vmap_rule = False

    @staticmethod
    def forward(ctx: Any, input: Tensor, seed: Tensor, p: float) -> Tensor:  # pyright: ignore
        ctx.p = p
        ctx.save_for_backward(seed)
        return torch.ops.switchgrad.dropout(input, seed, p)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        return Dropout.apply(grad, ctx.saved_tensors[0], ctx.p), None, None


class BiasReLUDropout(torch.autograd.Function):
    """``apply(input, bias, seed, p, axis)``. Its output, which the next layer keeps anyway, says what was kept."""

    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, bias: Tensor | None, seed: Tensor, p: float, axis: int
    ) -> Tensor:
        output = torch.ops.switchgrad.bias_relu_dropout(input, bias, seed, p, axis)
        ctx.scale, ctx.axis, ctx.bias_dtype = 1 / (1 - p), axis, None if bias is None else bias.dtype
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (output,) = ctx.saved_tensors
        # Above 0 or NaN: what the ReLU passed and the draw kept.
        dz = torch.where(output.detach() <= 0, 0, grad * ctx.scale)
        of_bias = None
        if ctx.needs_input_grad[1]:
            of_bias = dz.sum([axis for axis in range(grad.dim()) if axis != ctx.axis]).to(ctx.bias_dtype)
        return dz if ctx.needs_input_grad[0] else None, of_bias, None, None, None
