"""ReLU and max pooling in one pass over the input."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.checks import number
from switchgrad.ops.max_pool import Pooled, check_input, max_pool2d
from switchgrad.ops.max_pool import autograd as plain
from switchgrad.ops.override import overridable
from switchgrad.ops.relu_max_pool import registration as registration
from switchgrad.ops.relu_max_pool.autograd import pool, pool_with_codes
from switchgrad.ops.switches import Switches

__all__ = ["relu_max_pool2d"]


def _unfused(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    negative_slope: float = 0.0,
    return_switches: bool = False,
) -> Pooled:
    active = F.relu(input) if negative_slope == 0 else F.leaky_relu(input, negative_slope)
    return max_pool2d(active, kernel_size, stride, padding, dilation, ceil_mode, return_switches=return_switches)


@overridable(unfused=_unfused)
def relu_max_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    negative_slope: float = 0.0,
    return_switches: bool = False,
) -> Pooled:
    r"""The largest value of each window of ``relu(input)``, without writing ``relu(input)`` down.

    Shapes, window, layouts: as for `max_pool2d`, for float64, float32, float16 and bfloat16.

    .. math:: y_{n,c,p,q} = \max_{r,t}\, \mathrm{relu}(x_{n,c,\; p s + r d - b,\; q s + t d - b})

    ``negative_slope`` makes the ReLU leaky, with a finite slope of 0 or more (a negative one would turn the order
    round). Both kinds keep the order of numbers, so the maximum is taken first and the activation acts on the pooled
    map. ``return_switches`` adds the `Switches`.

    Ties and NaN as for `max_pool2d`, by the numbers before the activation. A window whose maximum is not above 0 is
    dead: it gives +0, has no winner (switch 255), and takes no gradient; with a slope above 0 every window has its
    winner. NaN passes, and its gradient with it, as in PyTorch; windows without any cell give -inf.

    Backward: as for `max_pool2d`, from one saved byte a pooled cell, where PyTorch keeps the activation and eight
    bytes an index; dead windows are skipped, and with a slope above 0 winners below 0 get ``negative_slope`` times
    the gradient. Twice differentiable, forward mode, vmap, ``torch.compile`` and ``torch.export`` work.

    Raises `GeometryError` for shapes and windows that do not fit and for slopes below 0.

    The pair is that of Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks
    (2012); leaky slopes: Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models (2013).

    >>> import torch
    >>> x = torch.tensor([[[3.0, -9.0, -1.0, -2.0]]], requires_grad=True)
    >>> y, switches = relu_max_pool2d(x, (1, 2), return_switches=True)
    >>> y.sum().backward()
    >>> y.tolist(), switches.codes.tolist(), x.grad.tolist()
    ([[[3.0, 0.0]]], [[[0, 255]]], [[[1.0, 0.0, 0.0, 0.0]]])
    >>> relu_max_pool2d(x, (1, 2), negative_slope=0.5).tolist()
    [[[3.0, -0.5]]]
    """
    check_input(input, 2)
    if not input.dtype.is_floating_point:
        raise GeometryError(
            f"the input has dtype {input.dtype}; a ReLU before max pooling takes float64, float32, float16 or "
            "bfloat16, so clamp and pool integers"
        )
    if not 0 <= number(negative_slope, "negative_slope") < math.inf:
        raise GeometryError(
            f"negative_slope is {negative_slope}; the maximum commutes with finite slopes of 0 or more, so give one "
            "or apply the activation before max_pool2d"
        )
    size = input.shape[-2:]
    win = window(2, kernel_size, stride, padding, dilation, ceil_mode, size)
    win.output_size(size)
    rectified = negative_slope == 0
    if not return_switches:
        return pool(input, win) if rectified else F.leaky_relu(plain.pool(input, win), negative_slope)
    values, codes = pool_with_codes(input, win) if rectified else plain.pool_with_codes(input, win)
    switches = Switches(codes, win, tuple(size))
    return (values if rectified else F.leaky_relu(values, negative_slope)), switches
