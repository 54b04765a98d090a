"""Convolution, bias, ReLU and max pooling in one: what it means, in plain PyTorch.

::

    z            = conv2d(pad(input), weight, bias, stride)
    values, code = relu_max_pool(z)      or max_pool(z) without the ReLU
    dz           = route(gradient, code)                          # at most one cell of each window is not 0
    dx, dw, db   = the convolution's own backward of dz
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool import reference as plain
from switchgrad.ops.relu_max_pool import reference as rectified


def padded(input: Tensor, padding: Sequence[int]) -> Tensor:
    """Zeros around the rows and columns: ``padding`` is (top, bottom, left, right)."""
    top, bottom, left, right = padding
    return F.pad(input, (left, right, top, bottom)) if any(padding) else input


def conv_max_pool(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv_stride: Sequence[int],
    conv_padding: Sequence[int],
    window: Sequence[int],
    relu: bool,
) -> tuple[Tensor, Tensor]:
    """Values and switches."""
    z = F.conv2d(padded(input, conv_padding), weight, bias, tuple(conv_stride))
    values, codes = (rectified.relu_max_pool if relu else plain.max_pool)(z, window)
    last = torch.channels_last
    # One channel lies in both layouts at once: the result stays in the kernel's own.
    values = values.clone(memory_format=last) if input.shape[1] == 1 else in_layout_of(input, values)
    if input.device.type == "cuda":  # each as its kernel writes them
        return values, torch.empty_like(values, dtype=codes.dtype).copy_(codes)
    return values, codes.clone(memory_format=last)


def conv_max_pool_backward(
    grad: Tensor,
    codes: Tensor,
    input: Tensor,
    weight: Tensor,
    conv_stride: Sequence[int],
    conv_padding: Sequence[int],
    window: Sequence[int],
    input_wanted: bool,
    weight_wanted: bool,
    bias_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias; empty tensors where they are not wanted."""
    extended = padded(input, conv_padding)
    size = [(extended.shape[2 + i] - weight.shape[2 + i]) // conv_stride[i] + 1 for i in range(2)]
    dz = plain.max_pool_route(grad, codes, size, window)
    wanted = [input_wanted, weight_wanted or bias_wanted, bias_wanted]
    dx, dw, db = torch.ops.aten.convolution_backward(
        dz, extended, weight, [weight.shape[0]], list(conv_stride), [0, 0], [1, 1], False, [0, 0], 1, wanted
    )
    top, left = conv_padding[0], conv_padding[2]
    return (
        in_layout_of(input, dx[..., top : top + input.shape[2], left : left + input.shape[3]])
        if input_wanted
        else input.new_empty(0),
        in_layout_of(weight, dw) if weight_wanted or bias_wanted else input.new_empty(0),
        db if bias_wanted else input.new_empty(0),
    )
