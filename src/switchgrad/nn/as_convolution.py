"""A fully connected layer is a convolution whose kernel is the whole map, and a convolution is a sparse matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import nn

from switchgrad.errors import GeometryError, ModelError
from switchgrad.geometry import window

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
_CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def linear_to_conv(linear: nn.Linear, input_shape: Sequence[int]) -> Convolution:
    """The convolution that does to a map what a linear layer does to the flattened map.

    ``input_shape``: ``(C, H, W)`` that is flattened in front of the layer (or ``(C, L)``, ``(C, D, H, W)``); ``(C, 1,
    1)`` after another converted layer. The result has the whole map as its kernel and no padding, so it answers a map
    of that size with one cell and a larger one with a cell for each place: ``weight[k, c, r, t] = linear.weight[k, (c H
    + r) W + t]``. The parameters are copies, with the dtype, device and ``requires_grad`` of the layer's.

    Raises `ModelError` where the map has another number of cells than the layer has inputs, or no spatial axis.

    J. Long, E. Shelhamer, T. Darrell: Fully convolutional networks for semantic segmentation, 2015.

    >>> linear = nn.Linear(512 * 7 * 7, 16)
    >>> conv = linear_to_conv(linear, (512, 7, 7))
    >>> conv(torch.zeros(1, 512, 12, 12)).shape                         # 384x384 instead of 224x224
    torch.Size([1, 16, 6, 6])
    """
    channels, *size = input_shape
    if len(size) not in _CONVOLUTIONS or torch.Size(input_shape).numel() != linear.in_features:
        raise ModelError(
            f"input_shape is {tuple(input_shape)} and the layer has {linear.in_features} inputs; give the shape "
            "(channels, then 1 to 3 sizes) that is flattened in front of it"
        )
    weight, bias = linear.weight, cast("nn.Parameter | None", linear.bias)
    make = _CONVOLUTIONS[len(size)]
    conv = make(channels, linear.out_features, tuple(size), bias=bias is not None)  # pyright: ignore
    conv.to(device=weight.device, dtype=weight.dtype).train(linear.training)
    conv.weight = nn.Parameter(weight.detach().clone().view(-1, *input_shape), weight.requires_grad)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return conv


def conv_to_linear(conv: Convolution, input_size: Sequence[int]) -> nn.Linear:
    """The linear layer that does to a flattened map of ``input_size`` what a convolution does to the map.

    Its matrix is ``[K P Q, C H W]``: mostly zeros (no connection outside the window), the rest the kernel again and
    again (shared weights). The parameters are copies.

    Raises `ModelError` for a transposed convolution, `GeometryError` where the window does not fit ``input_size``.

    >>> linear = conv_to_linear(nn.Conv2d(1, 1, 2, bias=False), (3, 3))
    >>> linear.weight.shape, int(linear.weight.count_nonzero())         # 4 places, 4 weights each
    (torch.Size([4, 9]), 16)
    """
    dims = len(conv.kernel_size)
    if conv.transposed:
        raise ModelError(f"{type(conv).__name__} is a transposed convolution; give a plain one")
    if len(input_size) != dims:
        raise GeometryError(f"input_size is {tuple(input_size)}; give {dims} sizes, one per axis of the convolution")
    window(dims, conv.kernel_size, conv.stride, conv.padding, conv.dilation, input_size=input_size).output_size(
        input_size
    )
    weight, bias = conv.weight.detach(), conv.bias
    shape = (conv.in_channels, *input_size)
    with torch.no_grad():
        cells = torch.eye(torch.Size(shape).numel(), dtype=weight.dtype, device=weight.device).unflatten(1, shape)
        maps = conv._conv_forward(cells, weight, None)  # pyright: ignore
    matrix = maps.flatten(1).T.contiguous()
    linear = nn.Linear(len(matrix.T), len(matrix), bias is not None, weight.device, weight.dtype).train(conv.training)
    linear.weight = nn.Parameter(matrix, conv.weight.requires_grad)
    if bias is not None:
        places = maps[0, 0].numel()
        linear.bias = nn.Parameter(bias.detach().repeat_interleave(places), bias.requires_grad)
    return linear
