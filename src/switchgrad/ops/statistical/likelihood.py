"""Maximum-likelihood pooling: the parameters of a distribution, fitted to each window."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.checks import number
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.window_sums import MOST_EXPONENT, may_be_read, window_means
from switchgrad.ops.windows import checked_window, wide, windows

Statistic: TypeAlias = Literal["shape", "scale"]


def gamma_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    statistic: Statistic = "scale",
    eps: float = 1e-6,
) -> Tensor:
    r"""A Gamma distribution fitted to each window: its ``statistic``, "scale" or "shape".

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's.

    .. math:: \hat\theta = \overline{x \ln x} - \bar x \, \overline{\ln x}, \quad \hat k = \bar x / \hat\theta

    These closed forms (Ye and Chen) are nearly the maximum-likelihood estimates, whose equation for k has no closed
    form; :math:`\hat k \hat\theta` is the mean, exactly. Values are meant to be positive: what is below ``eps`` counts
    as ``eps``. Padded cells take no part. A window of equal values has scale 0 and shape :math:`\bar x / 10^{-12}`. NaN
    in a window makes it NaN.

    Backward: through the logarithms, 0 for values below ``eps``. Raises `GeometryError` for shapes and windows that do
    not fit.

    Ranjan: Understanding deep learning: application in rare event prediction (2020), on pooling statistics; Ye, Chen:
    Closed-form estimators for the Gamma distribution derived from likelihood equations (2017).

    >>> import torch
    >>> gamma_pool2d(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]), 2)
    tensor([[[1.1705]]])
    """
    win = checked_window("gamma_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _gamma(input, win, statistic, eps)


def gamma_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    statistic: Statistic = "scale",
    eps: float = 1e-6,
) -> Tensor:
    """A Gamma distribution fitted to each stretch of a signal: `gamma_pool2d` along one axis.

    >>> import torch
    >>> gamma_pool1d(torch.tensor([[2.0, 2.0]]), 2)
    tensor([[0.]])
    """
    win = checked_window("gamma_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _gamma(input, win, statistic, eps)


def gamma_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    statistic: Statistic = "scale",
    eps: float = 1e-6,
) -> Tensor:
    """A Gamma distribution fitted to each box of a volume: `gamma_pool2d` along three axes.

    >>> import torch
    >>> gamma_pool3d(torch.rand(1, 4, 4, 4), 2, statistic="shape").shape
    torch.Size([1, 2, 2, 2])
    """
    win = checked_window("gamma_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _gamma(input, win, statistic, eps)


def weibull_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    shape: float | None = None,
    statistic: Statistic = "scale",
    eps: float = 1e-6,
) -> Tensor:
    r"""A Weibull distribution fitted to each window: its ``statistic``, "scale" or "shape".

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's.

    .. math:: \hat\lambda = \Big( \tfrac{1}{n} \sum_i x_i^k \Big)^{1/k}, \quad
        \frac{\sum_i x_i^k \ln x_i}{\sum_i x_i^k} - \frac{1}{k} - \overline{\ln x} = 0

    With ``shape`` given, k is that number; otherwise it solves the second equation, the maximum likelihood's, by
    Newton's method (at most 100 for windows of nearly equal values, where it has no end). k = 1 is the mean, larger k
    go towards the maximum. Values are meant to be positive: what is below ``eps`` counts as ``eps``. Padded cells take
    no part. NaN in a window makes it NaN.

    Backward: :math:`\partial \hat\lambda / \partial x` with the implicit derivative of k, exact to the third order (to
    every order where ``shape`` is given). Raises `GeometryError` for shapes and windows that do not fit.

    Ranjan: Understanding deep learning: application in rare event prediction (2020), on pooling statistics.

    >>> import torch
    >>> x = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    >>> weibull_pool2d(x, 2, shape=1.0), weibull_pool2d(x, 2), weibull_pool2d(x, 2, statistic="shape")
    (tensor([[[3.]]]), tensor([[[3.3849]]]), tensor([[[1.7044]]]))
    """
    win = checked_window("weibull_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _weibull(input, win, shape, statistic, eps)


def weibull_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    shape: float | None = None,
    statistic: Statistic = "scale",
    eps: float = 1e-6,
) -> Tensor:
    """A Weibull distribution fitted to each stretch of a signal: `weibull_pool2d` along one axis.

    >>> import torch
    >>> weibull_pool1d(torch.tensor([[1.0, 3.0]]), 2, shape=2.0)
    tensor([[2.2361]])
    """
    win = checked_window("weibull_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _weibull(input, win, shape, statistic, eps)


def weibull_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    shape: float | None = None,
    statistic: Statistic = "scale",
    eps: float = 1e-6,
) -> Tensor:
    """A Weibull distribution fitted to each box of a volume: `weibull_pool2d` along three axes.

    >>> import torch
    >>> weibull_pool3d(torch.rand(1, 4, 4, 4), 2).shape
    torch.Size([1, 2, 2, 2])
    """
    win = checked_window("weibull_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _weibull(input, win, shape, statistic, eps)


_MOST = 100.0


def _positive(input: Tensor, win: Window, statistic: str, eps: float) -> tuple[Tensor, Tensor]:
    """Each window's values, 1 beyond the input, and how many of the cells count."""
    if statistic not in ("shape", "scale"):
        raise GeometryError(f'statistic is "{statistic}"; give "scale" or "shape"')
    if not number(eps, "eps") > 0:
        raise GeometryError(f"eps is {eps}; logarithms need a positive one")
    x = wide(input)
    laid = windows(x.clamp_min(eps), win, 1.0)
    inside = windows(x.new_ones((1, *input.shape[-win.dims :])), win, 0.0)
    return laid, inside


def _gamma(input: Tensor, win: Window, statistic: str, eps: float) -> Tensor:
    x, inside = _positive(input, win, statistic, eps)
    count = inside.sum(-1)
    logs = x.log()
    mean = (x * inside).sum(-1) / count
    # Taken about the mean, so that windows of equal values come out at 0 and not at a rounding error.
    scale = ((x - mean.unsqueeze(-1)) * inside * logs).sum(-1) / count
    scale = scale.clamp_min(0)
    pooled = scale if statistic == "scale" else mean / scale.clamp_min(1e-12)
    return in_layout_of(input, pooled.to(input.dtype))


def _weibull(input: Tensor, win: Window, shape: float | None, statistic: str, eps: float) -> Tensor:
    if shape is not None and not number(shape, "shape") > 0:
        raise GeometryError(f"shape is {shape}; a Weibull distribution has a positive one")
    if shape is not None and statistic == "scale" and number(eps, "eps") > 0 and _is_tame(input, shape, eps):
        mean = window_means(wide(input).clamp_min(eps).pow(shape), win)
        return in_layout_of(input, mean.pow(1 / shape).to(input.dtype))
    x, inside = _positive(input, win, statistic, eps)
    # Divided by the largest, powers do not overflow.
    largest = x.detach().amax(-1, keepdim=True)
    logs, inside = (x / largest).log(), inside.expand(x.shape)
    k = _shape(logs, inside) if shape is None else torch.full_like(largest, shape)
    if statistic == "shape":
        return in_layout_of(input, k.squeeze(-1).to(input.dtype))
    mean = ((k * logs).exp() * inside).sum(-1, keepdim=True) / inside.sum(-1, keepdim=True)
    pooled = largest * (mean.log() / k).exp()
    return in_layout_of(input, pooled.squeeze(-1).to(input.dtype))


def _is_tame(input: Tensor, shape: float, eps: float) -> bool:
    """Whether the values may be looked at, and no power of one overflows or vanishes beside another."""
    if not may_be_read(input):
        return False
    most = float(input.detach().max())
    return most < math.inf and shape * max(-math.log(eps), math.log(max(most, eps))) < MOST_EXPONENT


def _shape(logs: Tensor, inside: Tensor) -> Tensor:
    """Newton's method on 1 / k - (weighted mean of logs) + (mean of logs), then two steps that carry derivatives.

    A step from the solution is off by the square of a change of ``logs``, a second one by its fourth power: so
    derivatives are right to the third order.
    """
    fixed = logs.detach()
    count = inside.sum(-1, keepdim=True)
    spread = ((fixed - (fixed * inside).sum(-1, keepdim=True) / count).square() * inside).sum(-1, keepdim=True) / count
    k = (1.28 / spread.sqrt().clamp_min(1.28 / _MOST)).clamp(0.01, _MOST)
    for _ in range(12):
        value, slope = _equation(fixed, inside, k)
        k = (k - value / slope).clamp(k / 3, k * 3).clamp(1e-3, _MOST)
    stopped = k >= _MOST
    for _ in range(2):
        value, slope = _equation(logs, inside, k)
        k = torch.where(stopped, k, k - value / slope)
    return k


def _equation(logs: Tensor, inside: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The likelihood's equation and its derivative by k."""
    weights = torch.where(inside > 0, k * logs, -torch.inf).softmax(-1)
    mean = (weights * logs).sum(-1, keepdim=True)
    plain = (logs * inside).sum(-1, keepdim=True) / inside.sum(-1, keepdim=True)
    variance = (weights * (logs - mean).square()).sum(-1, keepdim=True)
    return mean - 1 / k - plain, variance + 1 / k.square()
