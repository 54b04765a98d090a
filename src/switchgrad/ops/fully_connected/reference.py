"""A fully connected layer, in plain PyTorch: every output is a sum over all inputs.

::

    y  = x W^T + b, perhaps relu(y)
    g  = dy, but 0 where the ReLU gave 0 or below (NaN passes)
    dx = g W;  dw = g^T x;  db = the sum of g over its rows
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(input: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """(M, K) rows by a weight (N, K) to (M, N), perhaps with a ReLU behind it."""
    values = F.linear(input, weight, bias)
    return F.relu(values) if relu else values


def linear_backward(
    grad: Tensor,
    output: Tensor | None,
    input: Tensor,
    weight: Tensor,
    input_wanted: bool,
    weight_wanted: bool,
    bias_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias, empty where they are not wanted; ``output`` is the ReLU's, or None."""
    if output is not None:
        grad = torch.ops.aten.threshold_backward(grad, output, 0)
    none = input.new_empty(0)
    return (
        grad @ weight if input_wanted else none,
        grad.t() @ input if weight_wanted else none.clone(),
        grad.sum(0) if bias_wanted else none.clone(),
    )
