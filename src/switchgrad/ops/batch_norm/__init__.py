"""Batch normalisation with a ReLU, and with max pooling behind it, in one pass each way over the input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.ops.batch_norm import reference
from switchgrad.ops.batch_norm import registration as registration
from switchgrad.ops.batch_norm.autograd import BatchNormReLU, BatchNormReLUMaxPool, chain
from switchgrad.ops.checks import check_tensor
from switchgrad.ops.max_pool import max_pool2d
from switchgrad.ops.override import overridable
from switchgrad.ops.routing import is_transformed, is_watched

__all__ = ["batch_norm_relu", "batch_norm_relu_max_pool2d"]


def _in_steps(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What `batch_norm_relu` is made of, for modes that change its parts."""
    return F.relu(F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps))


def _pooled_in_steps(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    kernel_size: IntOrTuple = 2,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    active = _in_steps(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return max_pool2d(active, kernel_size, stride, padding, dilation, ceil_mode)


@overridable(unfused=_in_steps)
def batch_norm_relu(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    r"""Batch normalisation and ReLU: ``relu(torch.nn.functional.batch_norm(...))`` without the tensor between them.

    Shapes: ``input`` is :math:`(N, C, *)`, the result the same, in its layout and dtype (float64, float32, float16,
    bfloat16); the others are :math:`(C)`.

    .. math:: y = \max\left(0,\; \frac{x - \mu_c}{\sqrt{\sigma^2_c + \epsilon}} \gamma_c + \beta_c\right)

    In training :math:`\mu, \sigma^2` are mean and biased variance over batch and space, and the running ones (which
    may be None) move to them by ``momentum``, the variance unbiased, as in PyTorch; in evaluation they are the
    running ones. NaN passes the ReLU. Sums are taken in double, in an order that depends on shapes alone: the same
    bits with any number of threads, on every instruction set.

    Backward: kept are the input and two numbers a channel; the ReLU's mask is found again from the input. A second
    derivative, forward mode and vmap go through the single operators of PyTorch.

    Raises `GeometryError` for shapes that do not fit and for training on fewer than 2 values a channel.

    Ioffe, Szegedy: Batch normalization (2015).

    >>> import torch
    >>> batch_norm_relu(torch.tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0)
    tensor([[0.],
            [1.]])
    """
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps, None)


@overridable(unfused=_pooled_in_steps)
def batch_norm_relu_max_pool2d(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    kernel_size: IntOrTuple = 2,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""Batch normalisation, ReLU and max pooling: neither the normalised nor the rectified tensor is ever written.

    Shapes: ``input`` is :math:`(N, C, H, W)`, the result :math:`(N, C, P, Q)`; window arguments, ties, NaN and sizes as
    for `max_pool2d`, everything else as for `batch_norm_relu`. Statistics are those of all positions, winners or not.

    .. math:: y_{n,c,p,q} = \max_{r,t}\; \max\left(0, \hat x_{n,c,\;ps+rd-b,\;qs+td-b}\, \gamma_c + \beta_c\right)

    Backward: kept are the input, one byte a pooled cell and two numbers a channel. Weight and bias get their sums from
    winners that passed the ReLU alone; the gradient of the input is dense in training, because every cell has a part
    in mean and variance. A second derivative, forward mode and vmap go through single operators.

    Raises `GeometryError` for shapes and windows that do not fit and for training on fewer than 2 values a channel.

    >>> import torch
    >>> x = torch.tensor([[[[1.0, 3.0], [2.0, 2.0]]]])
    >>> batch_norm_relu_max_pool2d(x, torch.ones(1), torch.ones(1), eps=0.0, kernel_size=2)
    tensor([[[[2.]]]])
    """
    check_tensor(input, "the input of batch_norm_relu_max_pool2d")
    if input.dim() != 4:
        raise GeometryError(
            f"batch_norm_relu_max_pool2d takes an input of shape (N, C, H, W); this one has {tuple(input.shape)}"
        )
    size = input.shape[-2:]
    win = window(2, kernel_size, stride, padding, dilation, ceil_mode, size)
    win.output_size(size)
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps, win)


def _batch_norm(
    input: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    win: Window | None,
) -> Tensor:
    count = check(input, mean, var, weight, bias, training)
    if is_transformed() and not torch.compiler.is_compiling():
        return chain(input, weight, bias, mean, var, training, momentum, eps, win)
    watched = any(is_watched(t) for t in (input, weight, bias) if t is not None)
    args = (input, weight, bias, mean, var, training, eps)
    if win is None:
        values, statistics = (BatchNormReLU.apply if watched else torch.ops.switchgrad.batch_norm_relu)(*args)
    elif watched:
        values, _, statistics = BatchNormReLUMaxPool.apply(*args, win)
    else:
        values, statistics = torch.ops.switchgrad.batch_norm_relu_max_pool_values(*args, win.numbers)
    if training and mean is not None and var is not None:
        _move(mean, var, statistics, momentum, count)
    return values


def _move(mean: Tensor, var: Tensor, statistics: Tensor, momentum: float, count: int) -> None:
    with torch.no_grad():
        if torch.compiler.is_compiling():
            reference.batch_norm_move(mean, var, statistics, momentum, count)
            return
        torch.ops.switchgrad.batch_norm_move(mean, var, statistics, momentum, count)
    torch.autograd.graph.increment_version((mean, var))


def check(
    input: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
) -> int:
    """Refuse what does not fit; the number of values a channel has."""
    check_tensor(input, "the input of batch normalisation")
    if input.dim() < 2 or input.shape[1] == 0:
        raise GeometryError(
            f"batch normalisation takes an input of shape (N, C, ...) with 1 channel or more; this one has "
            f"{tuple(input.shape)}"
        )
    if not input.dtype.is_floating_point:
        raise GeometryError(
            f"the input has dtype {input.dtype}; batch normalisation takes float64, float32, float16 or bfloat16"
        )
    given = {"running_mean": mean, "running_var": var, "weight": weight, "bias": bias}
    for name, numbers in given.items():
        if numbers is not None:
            check_tensor(numbers, name)
        if numbers is not None and tuple(numbers.shape) != (input.shape[1],):
            raise GeometryError(
                f"{name} has shape {tuple(numbers.shape)} and the input {input.shape[1]} channels; give one number "
                "for each channel"
            )
    if not training and (mean is None or var is None):
        raise GeometryError("evaluation needs running_mean and running_var; give both, or set training=True")
    if training and mean is not None and mean.dtype not in (torch.float32, torch.float64):
        raise GeometryError(f"running_mean has dtype {mean.dtype}; running statistics move in float64 or float32")
    count = math.prod(input.shape) // input.shape[1]
    if training and count < 2:
        raise GeometryError(
            f"training needs 2 or more values for each channel; this input of shape {tuple(input.shape)} has {count}, "
            "so give a larger batch or use eval()"
        )
    return count
