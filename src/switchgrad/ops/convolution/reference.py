"""Convolution by Winograd's algorithm: what it means, in plain PyTorch, is the convolution itself.

::

    y  = conv2d(x, w, b, padding), perhaps relu(y)
    dx = the convolution's own gradient;  dw = the same

The algorithm changes the order of the sums, and so their rounding; nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.ops.layout import in_layout_of


def winograd_conv(
    input: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int], relu: bool, _: int
) -> Tensor:
    """The convolution with one step between windows, whatever the size of tiles, and perhaps a ReLU."""
    values = F.conv2d(input, weight, bias, padding=tuple(padding))
    return in_layout_of(input, F.relu(values) if relu else values)


def winograd_conv_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    padding: Sequence[int],
    _: int,
    input_wanted: bool,
    weight_wanted: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of input and weight; empty tensors where they are not wanted."""
    dx, dw, _ = torch.ops.aten.convolution_backward(
        grad,
        input,
        weight,
        None,
        [1, 1],
        list(padding),
        [1, 1],
        False,
        [0, 0],
        1,
        [input_wanted, weight_wanted, False],
    )
    return (
        in_layout_of(input, dx) if input_wanted else input.new_empty(0),
        in_layout_of(weight, dw) if weight_wanted else input.new_empty(0),
    )
