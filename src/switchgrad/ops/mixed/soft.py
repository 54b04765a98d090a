"""Pooling by attention within the window: SoftPool and local importance-based pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.checks import check_tensor
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.window_sums import MOST_EXPONENT, may_be_read, window_sums
from switchgrad.ops.windows import checked_window, wide, windows


def soft_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""The mean of each window under the softmax of its own values: smooth, and nearly the maximum.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's.

    .. math:: y = \sum_i w_i x_i, \quad w_i = e^{x_i} / \sum_j e^{x_j}

    The sums are those of the paper, a map at a time; where values are beyond 40 or -40, the largest of each window is
    taken off first, so nothing overflows. Padded
    cells take no part. A value of -inf has weight 0; where a window holds nothing else, or NaN or +inf, it gives NaN.

    Backward: :math:`\partial y / \partial x_i = w_i (1 + x_i - y)`. Raises `GeometryError` for shapes and windows that
    do not fit.

    Stergiou, Poppe, Kalliatakis: Refining activation downsampling with SoftPool (2021).

    >>> import torch
    >>> soft_pool2d(torch.tensor([[[0.0, 0.0], [0.0, 4.0]]]), 2)
    tensor([[[3.7917]]])
    """
    win = checked_window("soft_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _attention(input, input, win)


def soft_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The softmax-weighted mean of each stretch of a signal: `soft_pool2d` along one axis.

    >>> import torch
    >>> soft_pool1d(torch.tensor([[2.0, 2.0, -100.0, 5.0]]), 2)
    tensor([[2., 5.]])
    """
    win = checked_window("soft_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _attention(input, input, win)


def soft_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The softmax-weighted mean of each box of a volume: `soft_pool2d` along three axes.

    >>> import torch
    >>> soft_pool3d(torch.ones(1, 4, 4, 4), 2).unique()
    tensor([1.])
    """
    win = checked_window("soft_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _attention(input, input, win)


def lip_pool2d(
    input: Tensor,
    logits: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""The mean of each window under importances that a network of its own has found: local importance-based pooling.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's. ``logits``
    broadcasts to the input: (N, C, H, W), or (N, 1, H, W) for importances that all maps share.

    .. math:: y = \sum_i w_i x_i, \quad w_i = e^{l_i} / \sum_j e^{l_j}

    Padded cells take no part. Logits of -inf have weight 0; a window of nothing else gives NaN. Equal logits make it
    average pooling over the cells inside, logits of k x approach max pooling as k grows.

    Backward: :math:`\partial y / \partial x_i = w_i` and :math:`\partial y / \partial l_i = w_i (x_i - y)`. Raises
    `GeometryError` for shapes and windows that do not fit.

    Gao, Wang, Wu: LIP: local importance-based pooling (2019).

    >>> import torch
    >>> x = torch.tensor([[[3.0, 9.0], [0.0, 6.0]]])
    >>> lip_pool2d(x, torch.zeros(1, 2, 2), 2), lip_pool2d(x, torch.tensor([[[0.0, 0.0], [999.0, 0.0]]]), 2)
    (tensor([[[4.5000]]]), tensor([[[0.]]]))
    """
    win = checked_window("lip_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _attention(input, _expanded(logits, input), win)


def lip_pool1d(
    input: Tensor,
    logits: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The importance-weighted mean of each stretch of a signal: `lip_pool2d` along one axis.

    >>> import torch
    >>> lip_pool1d(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2), 2)
    tensor([[2.]])
    """
    win = checked_window("lip_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _attention(input, _expanded(logits, input), win)


def lip_pool3d(
    input: Tensor,
    logits: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The importance-weighted mean of each box of a volume: `lip_pool2d` along three axes.

    >>> import torch
    >>> lip_pool3d(torch.arange(8.0).reshape(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), 2).item()
    3.5
    """
    win = checked_window("lip_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _attention(input, _expanded(logits, input), win)


def _expanded(logits: Tensor, input: Tensor) -> Tensor:
    check_tensor(logits, "logits")
    if logits.dim() != input.dim() or any(n not in (1, m) for n, m in zip(logits.shape, input.shape, strict=True)):
        raise GeometryError(f"logits have shape {tuple(logits.shape)}; they must broadcast to {tuple(input.shape)}")
    return logits.expand_as(input)


def _attention(input: Tensor, logits: Tensor, win: Window) -> Tensor:
    x, z = wide(input), wide(logits)
    if may_be_read(x, z) and _is_tame(x, z):
        weights = z.exp()
        return in_layout_of(input, (window_sums(weights * x, win) / window_sums(weights, win)).to(input.dtype))
    weights = windows(z, win, -torch.inf).softmax(-1)
    laid = windows(x, win)
    # 0 times -inf is NaN, and so is its gradient: what has no weight is taken out of the sum before.
    laid = torch.where(laid == -torch.inf, 0, laid)
    return in_layout_of(input, (weights * laid).sum(-1).to(input.dtype))


def _is_tame(x: Tensor, z: Tensor) -> bool:
    """Whether no exponential overflows or vanishes beside another, and no -inf is to be left out."""
    least, most = z.detach().aminmax()
    return bool(torch.maximum(-least, most) < MOST_EXPONENT) and (x is z or bool(x.detach().min() > -torch.inf))
