"""General pooling: any differentiable function of the window."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.checks import check_tensor, number
from switchgrad.ops.checks import function as checked_function
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.windows import checked_window, windows


def general_pool2d(
    input: Tensor,
    function: Callable[[Tensor], Tensor],
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    fill: float = 0.0,
) -> Tensor:
    r"""Any function of the cells of a window, at every window: pooling is whatever you say.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's. ``function``
    is given the windows as (..., P, Q, R S), the cells of each in row-major order along the last axis, and returns
    (..., P, Q). Padded cells hold ``fill``: choose what your function passes over (0 in a sum, -inf in a maximum).

    .. math:: y = f(x_1, \dots, x_n)

    What happens at ties and NaN is what the function does. Backward: through the function, then each cell gets the sum
    over the windows that hold it. Raises `GeometryError` for shapes and windows that do not fit, and where the function
    returns another shape.

    Boureau, Ponce, LeCun: A theoretical analysis of feature pooling in visual recognition (2010): what the choice of
    the function does.

    >>> import torch
    >>> x = torch.tensor([[[3.0, 9.0], [0.0, 6.0]]])
    >>> general_pool2d(x, lambda cells: cells.median(-1).values, 2), general_pool2d(x, lambda cells: cells.std(-1), 2)
    (tensor([[[3.]]]), tensor([[[3.8730]]]))
    """
    win = checked_window("general_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _general(input, function, win, fill)


def general_pool1d(
    input: Tensor,
    function: Callable[[Tensor], Tensor],
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    fill: float = 0.0,
) -> Tensor:
    """Any function of each stretch of a signal: `general_pool2d` along one axis.

    >>> import torch
    >>> general_pool1d(torch.tensor([[1.0, 3.0, 2.0, 2.0]]), lambda cells: cells.prod(-1), 2)
    tensor([[3., 4.]])
    """
    win = checked_window("general_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _general(input, function, win, fill)


def general_pool3d(
    input: Tensor,
    function: Callable[[Tensor], Tensor],
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    fill: float = 0.0,
) -> Tensor:
    """Any function of each box of a volume: `general_pool2d` along three axes.

    >>> import torch
    >>> general_pool3d(torch.ones(1, 2, 2, 2), lambda cells: cells.square().sum(-1), 2).item()
    8.0
    """
    win = checked_window("general_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _general(input, function, win, fill)


def _general(input: Tensor, function: Callable[[Tensor], Tensor], win: Window, fill: float) -> Tensor:
    laid = windows(input, win, number(fill, "fill"))
    pooled = checked_function(function, "function")(laid)
    check_tensor(pooled, "what the function returned")
    if pooled.shape != laid.shape[:-1]:
        raise GeometryError(
            f"the function returned {tuple(pooled.shape)} for windows of {tuple(laid.shape)}; it must return "
            f"{tuple(laid.shape[:-1])}: one number a window"
        )
    return in_layout_of(input, pooled)
