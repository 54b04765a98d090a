"""Lp pooling: the p-norm of each window, of signed numbers and for any p above 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, fitting, remembered
from switchgrad.ops import lp_fused
from switchgrad.ops.avg_pool import sum_pool1d, sum_pool2d, sum_pool3d
from switchgrad.ops.avg_pool.reference import wide
from switchgrad.ops.checks import check_map_of_floats, check_map_tensor, number
from switchgrad.ops.max_pool import max_pool1d, max_pool2d, max_pool3d

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d", "lp_root", "lp_terms"]

_SUM: dict[int, Any] = {1: sum_pool1d, 2: sum_pool2d, 3: sum_pool3d}
_MAX: dict[int, Any] = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
) -> Tensor:
    r"""The p-norm of each window: between the sum (p = 1) and the maximum (p = inf) of absolute values.

    Shapes, ``kernel_size``, ``stride``, ``padding`` and ``dilation`` as for `avg_pool2d`; ``norm_type`` is p, any
    number above 0, and ``inf`` pools the largest absolute value. Half precision is computed in float32.

    .. math:: y = \Bigl( \sum_{r,t} |x_{r,t}|^p \Bigr)^{1/p}

    The sum runs over the cells inside the input, so padding adds nothing and a window that ``ceil_mode`` cuts short is
    not scaled up (PyTorch scales it). Signed numbers and fractional p work (PyTorch takes :math:`x^p`: NaN or the wrong
    sign).

    Powers and sums are taken in the dtype of sums (float64, otherwise float32) and not scaled, so numbers whose p-th
    power leaves its range give inf or 0, as in PyTorch: with p = 2 in float32, those above about 1.8e19 or
    below about 3e-23.

    Backward: :math:`\partial y / \partial x = \operatorname{sign}(x) (|x| / y)^{p-1}`, and 0 where x is 0, also at the
    kinks and poles there; deterministic. Every order of derivatives and ``torch.compile`` work. With ``inf`` the
    gradient goes to the first largest cell.

    Raises `GeometryError` for p of 0, below, or NaN, and where `avg_pool2d` does.

    Sermanet, Chintala, LeCun: Convolutional neural networks applied to house numbers digit classification (2012).

    >>> import torch
    >>> x = torch.tensor([[[3.0, -4.0], [0.0, 0.0]]], requires_grad=True)
    >>> y = lp_pool2d(x, 2, 2)
    >>> y.backward()
    >>> y.item(), x.grad.tolist()
    (5.0, [[[0.6000000238418579, -0.800000011920929], [0.0, 0.0]]])
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode, padding, dilation)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
) -> Tensor:
    """The p-norm of each stretch of a signal: `lp_pool2d` along one axis.

    >>> import torch
    >>> lp_pool1d(torch.tensor([[3.0, -4.0, 6.0, 8.0]]), 2, 2)
    tensor([[ 5., 10.]])
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode, padding, dilation)


def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
) -> Tensor:
    """The p-norm of each box of a volume: `lp_pool2d` along three axes.

    >>> import torch
    >>> lp_pool3d(-torch.ones(1, 2, 2, 4), 3, 2).flatten()
    tensor([2., 2.])
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode, padding, dilation)


def _lp_pool(
    dims: int,
    input: Tensor,
    norm_type: float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    ceil_mode: bool,
    padding: Padding,
    dilation: IntOrTuple,
) -> Tensor:
    check_map_tensor(input, "lp_pool", dims)
    win = _window(dims, input.shape, input.dtype, kernel_size, stride, padding, dilation, ceil_mode)
    p = checked_norm(norm_type)
    if p == math.inf:
        return _MAX[dims](input.abs(), kernel_size, stride, padding, dilation, ceil_mode)

    def steps(input: Tensor, p: float) -> Tensor:
        terms = lp_terms(input.to(wide(input.dtype)), p)
        sums = _SUM[dims](terms, kernel_size, stride, padding, ceil_mode, dilation=dilation)
        return lp_root(sums, p).to(input.dtype)

    if not lp_fused.has_kernel(input, p):
        return steps(input, p)
    return lp_fused.norms(input, p, win, steps)


@remembered
def _window(
    dims: int,
    shape: Sequence[int],
    dtype: torch.dtype,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    dilation: IntOrTuple,
    ceil_mode: bool,
) -> Window:
    check_map_of_floats(shape, dtype, dims, f"lp_pool{dims}d")
    return fitting(dims, kernel_size, stride, padding, dilation, ceil_mode, shape[-dims:])


def checked_norm(norm_type: float) -> float:
    """``norm_type`` as p, once it is known to be above 0."""
    p = float(number(norm_type, "norm_type"))
    if not p > 0:
        raise GeometryError(f"norm_type is {norm_type}; give a number above 0, or inf for the largest absolute value")
    return p


def lp_terms(input: Tensor, p: float) -> Tensor:
    """``|x|^p``, whose derivatives at 0 are 0 where they would not exist."""
    if p == 2:
        return input * input
    size = input.abs()
    if p == 1:
        return size
    zero = size == 0
    return torch.where(zero, 0, torch.where(zero, 1, size).pow(p))


def lp_root(sums: Tensor, p: float) -> Tensor:
    """``sums^(1/p)`` with derivatives of 0 at 0."""
    if p == 1:
        return sums
    zero = sums == 0
    safe = torch.where(zero, 1, sums)
    return torch.where(zero, 0, safe.sqrt() if p == 2 else safe.pow(1 / p))
