"""Trainable subsampling: the pooling of LeNet-5 before max pooling took its place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.avg_pool import sum_pool1d, sum_pool2d, sum_pool3d
from switchgrad.ops.checks import check_floats, check_tensor
from switchgrad.ops.routing import is_transformed

__all__ = ["trainable_subsampling1d", "trainable_subsampling2d", "trainable_subsampling3d"]

_SUMS: dict[int, Any] = {1: sum_pool1d, 2: sum_pool2d, 3: sum_pool3d}


def trainable_subsampling2d(
    input: Tensor,
    coefficient: Tensor,
    bias: Tensor,
    kernel_size: IntOrTuple = 2,
    stride: IntOrTuple | None = None,
) -> Tensor:
    r"""The sum of each window, times one coefficient a map, plus one bias a map.

    Shapes: ``input`` is :math:`(N, C, H, W)` or :math:`(C, H, W)`, ``coefficient`` and ``bias`` :math:`(C)`, the result
    :math:`(N, C, P, Q)` with :math:`P = \lfloor (H - R) / s \rfloor + 1`; ``stride`` defaults to ``kernel_size``, so
    that windows do not overlap. The layout is the input's.

    .. math:: y_{n,c,p,q} = a_c \sum_{r,t} x_{n,c,\,ps+r,\,qs+t} + b_c

    The squashing function that follows it in the paper is a step of its own. NaN in a window makes it NaN.

    Backward: every cell of a window gets :math:`a_c` times the gradient of the output, the coefficient gets the
    window's sum times it, the bias the gradient itself.

    Raises `GeometryError` where an input has other axes or is smaller than the window, and for other numbers of
    coefficients or biases than channels.

    LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition (1998), section II.B.

    >>> import torch
    >>> x = torch.tensor([[[3.0, 9.0], [0.0, 6.0]]])
    >>> trainable_subsampling2d(x, torch.tensor([0.5]), torch.tensor([1.0]))
    tensor([[[10.]]])
    """
    return _subsampled(2, input, coefficient, bias, kernel_size, stride)


def trainable_subsampling1d(
    input: Tensor,
    coefficient: Tensor,
    bias: Tensor,
    kernel_size: IntOrTuple = 2,
    stride: IntOrTuple | None = None,
) -> Tensor:
    """Trainable subsampling of a signal: `trainable_subsampling2d` along one axis.

    >>> import torch
    >>> trainable_subsampling1d(torch.tensor([[3.0, 9.0, 0.0, 6.0]]), torch.ones(1), torch.zeros(1))
    tensor([[12.,  6.]])
    """
    return _subsampled(1, input, coefficient, bias, kernel_size, stride)


def trainable_subsampling3d(
    input: Tensor,
    coefficient: Tensor,
    bias: Tensor,
    kernel_size: IntOrTuple = 2,
    stride: IntOrTuple | None = None,
) -> Tensor:
    """Trainable subsampling of a volume: `trainable_subsampling2d` along three axes.

    >>> import torch
    >>> trainable_subsampling3d(torch.ones(1, 2, 2, 4), torch.ones(1), torch.zeros(1)).flatten()
    tensor([8., 8.])
    """
    return _subsampled(3, input, coefficient, bias, kernel_size, stride)


def _subsampled(
    dims: int, input: Tensor, coefficient: Tensor, bias: Tensor, kernel_size: IntOrTuple, stride: IntOrTuple | None
) -> Tensor:
    check_floats(input, dims, f"trainable_subsampling{dims}d")
    channels = input.shape[-dims - 1]
    for given, name in ((coefficient, "coefficient"), (bias, "bias")):
        check_tensor(given, name)
        if tuple(given.shape) != (channels,):
            raise GeometryError(
                f"{name} has shape {tuple(given.shape)} and the input {tuple(input.shape)}; give one number for each "
                f"of the {channels} channels"
            )
    sums = _SUMS[dims](input, kernel_size, stride)
    each = (channels, *[1] * dims)
    # Not addcmul, whose forward and backward take up to twice as long over planar maps.
    product, shift = sums * coefficient.reshape(each), bias.reshape(each)
    return product + shift if is_transformed() else product.add_(shift)
