"""Average and sum pooling in one, two and three dimensions: drop-in for ``torch.nn.functional``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, fitting, remembered
from switchgrad.kernels.schema import operator
from switchgrad.ops import linear_maps
from switchgrad.ops.avg_pool import registration as registration  # what the operators mean on every device
from switchgrad.ops.checks import check_map_of_floats, check_map_tensor, known_number

__all__ = ["avg_pool1d", "avg_pool2d", "avg_pool3d", "sum_pool1d", "sum_pool2d", "sum_pool3d"]

_avg_pool, _avg_pool_spread = operator("avg_pool"), operator("avg_pool_spread")


def avg_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: IntOrTuple = 1,
) -> Tensor:
    r"""The mean of each window.

    Shapes: ``input`` is :math:`(N, C, H, W)` or :math:`(C, H, W)`, the result :math:`(N, C, P, Q)` or
    :math:`(C, P, Q)`, sizes as for `max_pool2d`. Layout and dtype are the input's: float64, float32, float16,
    bfloat16; half-precision sums are taken in float32 and rounded once.

    .. math:: y_{n,c,p,q} = \frac{1}{k_{p,q}} \sum_{r,t} x_{n,c,\; p s + r d - b,\; q s + t d - b}

    The sum runs over the cells inside the input. The divisor :math:`k_{p,q}` is the number of cells inside the padded
    input; with ``count_include_pad=False`` of those inside the input; or ``divisor_override``. Cells that
    ``ceil_mode`` adds beyond the padding never count. ``kernel_size``, ``stride``, ``padding`` (also asymmetric,
    ``"same"``, and up to the window's span less one) and ``dilation`` as for `max_pool2d`.

    A window without a cell inside the input (dilation can hop over it) gives 0. NaN and infinities spread to every
    window that holds them.

    Backward: :math:`\partial L / \partial x` is the sum of :math:`(\partial L / \partial y) / k` over the windows that
    hold the cell; nothing is kept for it. It is deterministic: neither threads, nor the layout, nor the instruction
    set changes a bit. Linear, so differentiable at every order; forward mode, vmap, ``torch.compile`` and
    ``torch.export`` work.

    Raises `GeometryError` for shapes and windows that do not fit, a divisor of 0, and integers.

    LeCun et al.: Handwritten digit recognition with a back-propagation network (1990).

    >>> import torch
    >>> x = torch.tensor([[[3.0, 9.0], [0.0, 6.0]]], requires_grad=True)
    >>> y = avg_pool2d(x, 2)
    >>> y.backward()
    >>> y.item(), x.grad.tolist()
    (4.5, [[[0.25, 0.25], [0.25, 0.25]]])
    >>> avg_pool2d(torch.ones(1, 1, 3, 3), 3, stride=2, padding=1, count_include_pad=False).unique()
    tensor([1.])
    """
    return _average(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, _checked(divisor_override), dilation
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: IntOrTuple = 1,
) -> Tensor:
    """The mean of each stretch of a signal: `avg_pool2d` along one axis.

    Shapes: ``input`` is (N, C, L) or (C, L), the result (N, C, P) or (C, P). Everything else as for `avg_pool2d`.

    >>> import torch
    >>> avg_pool1d(torch.tensor([[1.0, 4.0, 4.0, 2.0, 7.0]]), 2, ceil_mode=True)
    tensor([[2.5000, 3.0000, 7.0000]])
    """
    return _average(
        1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, _checked(divisor_override), dilation
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: IntOrTuple = 1,
) -> Tensor:
    """The mean of each box of a volume: `avg_pool2d` along three axes.

    Shapes: ``input`` is (N, C, D, H, W) or (C, D, H, W), the result the same with pooled axes. Everything else as for
    `avg_pool2d`; deterministic, which PyTorch's own backward is not on CUDA.

    >>> import torch
    >>> avg_pool3d(torch.arange(27.0).reshape(1, 3, 3, 3), 2, stride=1).flatten().tolist()
    [6.5, 7.5, 9.5, 10.5, 15.5, 16.5, 18.5, 19.5]
    """
    return _average(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, _checked(divisor_override), dilation
    )


def sum_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    dilation: IntOrTuple = 1,
) -> Tensor:
    r"""The sum of each window: `avg_pool2d` without the division.

    .. math:: y_{n,c,p,q} = \sum_{r,t} x_{n,c,\; p s + r d - b,\; q s + t d - b}

    Shapes, arguments, edges and errors as for `avg_pool2d`. Backward: each cell gets the sum of the gradients of the
    windows that hold it.

    Boureau, Ponce, LeCun: A theoretical analysis of feature pooling in visual recognition (2010).

    >>> import torch
    >>> sum_pool2d(torch.tensor([[[3.0, 9.0], [0.0, 6.0]]]), 2)
    tensor([[[18.]]])
    """
    return _average(2, input, kernel_size, stride, padding, ceil_mode, True, 1, dilation, "sum_pool")


def sum_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    dilation: IntOrTuple = 1,
) -> Tensor:
    """The sum of each stretch of a signal: `sum_pool2d` along one axis.

    >>> import torch
    >>> sum_pool1d(torch.tensor([[1.0, 4.0, 4.0, 2.0]]), 2)
    tensor([[5., 6.]])
    """
    return _average(1, input, kernel_size, stride, padding, ceil_mode, True, 1, dilation, "sum_pool")


def sum_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    dilation: IntOrTuple = 1,
) -> Tensor:
    """The sum of each box of a volume: `sum_pool2d` along three axes.

    >>> import torch
    >>> sum_pool3d(torch.ones(1, 2, 2, 4), 2)
    tensor([[[[8., 8.]]]])
    """
    return _average(3, input, kernel_size, stride, padding, ceil_mode, True, 1, dilation, "sum_pool")


@dataclass(frozen=True, slots=True)
class AveragePooling:
    """Average pooling as a linear map; ``divisor`` 0 stands for the number of cells."""

    window: Window
    count_include_pad: bool
    divisor: float

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return self.window.dims

    def up(self, input: Tensor) -> Tensor:
        """The averages."""
        return _avg_pool(input, self.window.numbers, self.count_include_pad, self.divisor)

    def down(self, pooled: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
        """Each pooled number shared out to the cells of its window."""
        return _avg_pool_spread(pooled, size, self.window.numbers, self.count_include_pad, self.divisor, channels_last)


def _checked(divisor_override: int | None) -> float:
    if divisor_override is None:
        return 0.0
    if divisor_override == 0:
        raise GeometryError("divisor_override is 0; give a number to divide by, or None for the number of cells")
    return float(known_number(divisor_override, "divisor_override"))


def _average(
    dims: int,
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: float,
    dilation: IntOrTuple,
    name: str = "avg_pool",
) -> Tensor:
    check_map_tensor(input, name, dims)
    averages = _pooling(
        name,
        dims,
        input.shape,
        input.dtype,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor,
        dilation,
    )
    return linear_maps.apply(input, averages)


@remembered
def _pooling(
    name: str,
    dims: int,
    shape: Sequence[int],
    dtype: torch.dtype,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: float,
    dilation: IntOrTuple,
) -> AveragePooling:
    """The averages of windows that are known to fit into an input of this shape and type."""
    check_map_of_floats(shape, dtype, dims, f"{name}{dims}d")
    win = fitting(dims, kernel_size, stride, padding, dilation, ceil_mode, shape[-dims:])
    return AveragePooling(win, count_include_pad, float(divisor))
