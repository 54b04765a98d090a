"""Chains of fully connected layers on the autograd tape: one node, whatever their number.

Kept are the input, the parameters and what each layer but the last gave.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.ops import composed
from switchgrad.ops.mlp import reference


class Mlp(torch.autograd.Function):
    """``apply(input, weight, bias, weight, bias, ...)`` gives the values; a bias may be None."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, *parameters: Tensor | None) -> Tensor:  # pyright: ignore
        values, *hidden = torch.ops.switchgrad.mlp(input, parameters[::2], parameters[1::2], True)
        ctx.save_for_backward(input, *parameters, *hidden)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        wanted = ctx.needs_input_grad
        saved = ctx.saved_tensors
        input, parameters, hidden = saved[0], saved[1 : len(wanted)], saved[len(wanted) :]
        if composed.is_differentiated_again():
            return composed.gradients(_in_steps, (input, *parameters), grad)
        backward = reference.mlp_backward if _is_a_batch(grad) else torch.ops.switchgrad.mlp_backward
        found = backward(grad, input, hidden, parameters[::2], wanted)
        return tuple(t if asked else None for t, asked in zip(found, wanted, strict=True))


def _is_a_batch(grad: Tensor) -> bool:
    """Whether `torch.autograd.grad` asks for a batch of gradients at once, by a vmap that knows no lists of tensors."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_legacy_batchedtensor(grad)  # pyright: ignore


def _in_steps(input: Tensor, *parameters: Tensor | None) -> Tensor:
    weights: Any = parameters[::2]
    return reference.mlp(input, weights, parameters[1::2], False)[0]
