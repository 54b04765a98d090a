"""Fully connected layers one behind the other, in plain PyTorch.

::

    h_0 = x;  h_l = relu(h_{l-1} W_l^T + b_l);  y = h_{L-1} W_L^T + b_L
    g_L = dy;  g_{l-1} = g_l W_l, but 0 where h_{l-1} is 0 or below (NaN passes);  dx = g_1 W_1
    dW_l = g_l^T h_{l-1};  db_l = the sum of g_l over its rows
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def mlp(input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], kept: bool) -> list[Tensor]:
    """Rows (M, K), or pictures (M, C, H, W) as rows, through all layers.

    Behind the result, where ``kept``, is what each layer but the last gave.
    """
    hidden = [input.flatten(1)]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden.append(F.relu(F.linear(hidden[-1], weight, bias)))
    return [F.linear(hidden[-1], weights[-1], biases[-1]), *(hidden[1:] if kept else ())]


def format_of(input: Tensor) -> torch.memory_format:
    """The layout of an input, which its gradient has as well."""
    last = input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def mlp_backward(
    grad: Tensor, input: Tensor, hidden: Sequence[Tensor], weights: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor]:
    """The gradients of the input and of each layer's weight and bias in turn, empty where they are not ``wanted``."""
    found: list[Tensor] = []
    for at in reversed(range(len(weights))):
        given, weight = (hidden[at - 1] if at else input.flatten(1)), weights[at]
        found += [grad.sum(0), grad.t() @ given]
        grad = grad @ weight
        if at:
            grad = torch.ops.aten.threshold_backward(grad, given, 0)
    grad = grad.reshape(input.shape).contiguous(memory_format=format_of(input))
    return [t if asked else input.new_empty(0) for t, asked in zip([grad, *reversed(found)], wanted, strict=True)]
