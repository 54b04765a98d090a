"""Convolution, bias, ReLU and max pooling on CUDA: cuDNN's convolution, and one kernel for all that follows.

Backward sends the gradient to the winners and gives it to cuDNN, which computes densely: a GPU does so faster than it
follows winners one by one. Of the maps before the pool nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.gpu.blocks import BIAS, PLAIN, pool_block
from switchgrad.gpu.max_pool import max_pool_route, pooled_shape
from switchgrad.layout import code_dtype, empty_in_layout_of, no_winner


def conv_max_pool(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv_stride: Sequence[int],
    conv_padding: Sequence[int],
    window: Sequence[int],
    relu: bool,
) -> tuple[Tensor, Tensor]:
    """Values and codes."""
    win = window_of(window)
    extended, padding = _padded(input, conv_padding)
    z = F.conv2d(extended, weight, None, tuple(conv_stride), padding)
    values, codes = _empty(input, z, win)
    numbers, kind = (None, PLAIN) if bias is None else (bias.contiguous(), BIAS)
    pool_block(z, values, codes, numbers, win, kind=kind, relu=relu)
    return values, codes


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
    nothing = weight.new_empty(0)
    dx, dw, db = nothing, nothing, nothing
    weight_wanted = weight_wanted or bias_wanted  # as the signature has it on every device
    if bias_wanted:
        db = torch.where(codes == no_winner(codes.dtype), 0, grad).sum((0, 2, 3))
    if not (input_wanted or weight_wanted):
        return nothing, nothing, db
    extended, padding = _padded(input, conv_padding)
    sides = zip(extended.shape[2:], padding, weight.shape[2:], conv_stride, strict=True)
    size = [(cells + 2 * pad - taps) // step + 1 for cells, pad, taps, step in sides]
    dz = max_pool_route(grad, codes, size, window)
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dz, extended, weight, None, list(conv_stride), padding, [1, 1], False, [0, 0], 1,
        [input_wanted, weight_wanted, False],
    )  # fmt: skip
    if input_wanted and extended is not input:
        top, left = conv_padding[0], conv_padding[2]
        dx = dx[..., top : top + input.shape[2], left : left + input.shape[3]]
    return _laid(input, dx) if input_wanted else nothing, _laid(weight, dw) if weight_wanted else nothing, db


def _padded(input: Tensor, padding: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The input and the padding that is left to cuDNN, which pads alike on both sides."""
    top, bottom, left, right = padding
    if (top, left) == (bottom, right):
        return input, [top, left]
    return F.pad(input, (left, right, top, bottom)), [0, 0]


def _empty(input: Tensor, z: Tensor, win: Window) -> tuple[Tensor, Tensor]:
    """Values and codes, side by side in the same order; of one channel, which lies in both layouts, channels last."""
    shape, dtype = pooled_shape(z, win), code_dtype(win.cells)
    if input.shape[1] > 1:
        return empty_in_layout_of(input, shape, z.dtype), empty_in_layout_of(input, shape, dtype)
    values = torch.empty(shape, dtype=z.dtype, device=z.device, memory_format=torch.channels_last)
    return values, torch.empty_like(values, dtype=dtype)


def _laid(like: Tensor, found: Tensor) -> Tensor:
    laid = empty_in_layout_of(like, tuple(like.shape), like.dtype)
    return found if found.stride() == laid.stride() else laid.copy_(found)
