"""Global entropy pooling and max-min pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.checks import check_tensor
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool.autograd import pool
from switchgrad.ops.windows import check_floats, checked_window, wide


def global_entropy_pool(input: Tensor) -> Tensor:
    r"""The entropy of each map: how much it says, not how strong it is.

    Shapes: ``input`` is (N, C, L), (N, C, H, W) or (N, C, D, H, W), the result (N, C), in nats, from 0 to the
    logarithm of the number of cells; float64, float32, float16, bfloat16 (these two summed in float32).

    .. math:: y = -\sum_i p_i \ln p_i, \quad p_i = a_i / \sum_j a_j

    No parameters: it takes the place of global average pooling in a trained network. Activations are meant to be
    non-negative (after a ReLU); negative ones count as 0. A map without a positive one has entropy 0. NaN and
    infinity make their map NaN.

    Backward: :math:`\partial y / \partial a_i = -(\ln p_i + y) / \sum_j a_j`, and 0 where :math:`a_i \le 0`. Raises
    `GeometryError` for shapes that do not fit.

    Filus, Domanska: Global entropy pooling layer for convolutional neural networks (2023); the probabilities are the
    map's values divided by their sum.

    >>> global_entropy_pool(torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]]]))        # ln 2, and 0
    tensor([[0.6931, 0.0000]])
    """
    check_tensor(input, "the input of global_entropy_pool")
    dims = input.dim() - 2
    if dims not in (1, 2, 3):
        raise GeometryError(
            f"global_entropy_pool takes (N, C, L), (N, C, H, W) or (N, C, D, H, W), not {tuple(input.shape)}"
        )
    check_floats("global_entropy_pool", input, dims)
    x = wide(input).flatten(2)
    positive = torch.where(x <= 0, 0, x)
    largest = positive.detach().amax(-1, keepdim=True)
    positive = positive / torch.where(largest == 0, 1, largest)  # so that the sum does not overflow
    total = positive.sum(-1, keepdim=True)
    p = positive / torch.where(total == 0, 1, total)
    entropy = torch.where(p == 0, 0, -p * torch.where(p == 0, 1, p).log()).sum(-1)
    return entropy.to(input.dtype)


def max_min_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""The largest value of each window, and minus the smallest: twice the channels.

    Shapes: ``input`` is (N, C, H, W) or (C, H, W), the result (N, 2 C, P, Q) or (2 C, P, Q): first the maxima of all
    channels, then what is left of the minima with their sign turned. Window as for `max_pool2d`; float64, float32,
    float16, bfloat16; the layout is the input's.

    .. math:: y = (\max_i x_i, \; \max_i (-x_i)) = (\max_i x_i, \; -\min_i x_i)

    So a ReLU behind it keeps strong responses of either sign, as in the paper, where map and turned map are put side by
    side before ReLU and max pooling. Ties: the first cell; NaN wins in both.

    Backward: to the winners, from one byte a pooled cell. Raises `GeometryError` for shapes and windows that do not
    fit.

    Blot, Cord, Thome: Max-min convolutional neural networks for image classification (2016).

    >>> import torch
    >>> max_min_pool2d(torch.tensor([[[3.0, 9.0], [-5.0, 6.0]]]), 2).flatten()
    tensor([9., 5.])
    """
    win = checked_window("max_min_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_min(input, win)


def max_min_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest and the smallest value of each stretch of a signal: `max_min_pool2d` along one axis.

    >>> import torch
    >>> max_min_pool1d(torch.tensor([[1.0, 3.0]]), 2)
    tensor([[ 3.],
            [-1.]])
    """
    win = checked_window("max_min_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_min(input, win)


def max_min_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest and the smallest value of each box of a volume: `max_min_pool2d` along three axes.

    >>> import torch
    >>> max_min_pool3d(torch.arange(8.0).reshape(1, 2, 2, 2), 2).flatten()
    tensor([7., -0.])
    """
    win = checked_window("max_min_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_min(input, win)


def _max_min(input: Tensor, win: Window) -> Tensor:
    both = torch.cat([input, -input], -win.dims - 1)
    return in_layout_of(input, pool(both, win))
