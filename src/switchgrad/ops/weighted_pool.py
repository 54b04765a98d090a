"""Averages whose weights fall with the distance from the central pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor
from torch.nn import Parameter, functional

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.ops import linear_maps
from switchgrad.ops.checks import check_floats, number
from switchgrad.ops.filter_pool import ZEROS, Filter, products
from switchgrad.ops.routing import is_watched

__all__ = ["weighted_avg_pool1d", "weighted_avg_pool2d", "weighted_avg_pool3d"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def weighted_avg_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    *,
    sigma: float | None = None,
    weights: Tensor | None = None,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""The mean of each window under weights that depend on the place in the window.

    Shapes, ``kernel_size``, ``stride``, ``padding``, ``dilation`` and ``ceil_mode`` as for `avg_pool2d`. Give one of
    ``sigma``, in cells: :math:`w_{r,t} = e^{-d^2 / 2 \sigma^2}` with d the distance of cell (r, t) from the window's
    centre; or ``weights`` of the window's shape, not negative and not all 0, which may be trained.

    .. math:: y = \frac{\sum_{r,t} w_{r,t}\, x_{r,t}}{\sum_{r,t} w_{r,t}}

    Both sums run over the cells inside the input, so a window at the border is a mean of what it sees; one that sees no
    weight gives 0. A large sigma is `avg_pool2d` with ``count_include_pad=False``, a small one picks the centre.

    Backward: each cell gets its weight's share; the weights get theirs. Every order of derivatives works.

    Raises `GeometryError` for neither or both of ``sigma`` and ``weights``, a sigma not above 0, weights of another
    shape, and where `avg_pool2d` does.

    Goodfellow, Bengio, Courville: Deep learning (2016), section 9.3, names it among the popular kinds.

    >>> import torch
    >>> x = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]])
    >>> weighted_avg_pool2d(x, 3, sigma=100.0).item(), weighted_avg_pool2d(x, 3, sigma=0.1).item()
    (1.0000..., 9.0)
    >>> weighted_avg_pool2d(x, 3, weights=torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]])).item()
    4.5
    """
    return _weighted(2, input, kernel_size, stride, padding, sigma, weights, dilation, ceil_mode)


def weighted_avg_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    *,
    sigma: float | None = None,
    weights: Tensor | None = None,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The mean of each stretch of a signal under weights by place: `weighted_avg_pool2d` along one axis.

    Shapes: (N, C, L) or (C, L); ``weights`` has shape (R,). Everything else as for `weighted_avg_pool2d`.

    >>> import torch
    >>> weighted_avg_pool1d(torch.tensor([[0.0, 6.0, 3.0]]), 3, weights=torch.tensor([1.0, 2.0, 1.0]))
    tensor([[3.7500]])
    """
    return _weighted(1, input, kernel_size, stride, padding, sigma, weights, dilation, ceil_mode)


def weighted_avg_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    *,
    sigma: float | None = None,
    weights: Tensor | None = None,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The mean of each box of a volume under weights by place: `weighted_avg_pool2d` along three axes.

    Shapes: (N, C, D, H, W) or (C, D, H, W); ``weights`` has the shape of the box.

    >>> import torch
    >>> weighted_avg_pool3d(torch.ones(1, 4, 5, 6), 3, stride=2, padding=1, sigma=0.8).shape
    torch.Size([1, 2, 3, 3])
    """
    return _weighted(3, input, kernel_size, stride, padding, sigma, weights, dilation, ceil_mode)


def _weighted(
    dims: int,
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    sigma: float | None,
    weights: Tensor | None,
    dilation: IntOrTuple,
    ceil_mode: bool,
) -> Tensor:
    check_floats(input, dims, f"weighted_avg_pool{dims}d")
    size = input.shape[-dims:]
    win = window(dims, kernel_size, stride, padding, dilation, ceil_mode, size)
    if (sigma is None) == (weights is None):
        raise GeometryError("give either sigma, a distance in cells, or weights of the window's shape")
    places = win.output_size(size)
    if sigma is not None:
        return linear_maps.apply(input, _filter(win, _by_distance(win, sigma), places))
    kernel = _given(win, weights, input)
    if _is_constant(kernel):
        return linear_maps.apply(input, _filter(win, tuple(kernel.flatten().tolist()), places))
    batch = input if input.dim() == dims + 2 else input.unsqueeze(0)
    sums = _sums(batch, kernel, win)
    seen = _sums(input.new_ones((1, 1, *size)), kernel, win)
    nothing = seen == 0
    means = torch.where(nothing, 0, sums / torch.where(nothing, 1, seen))
    return means if input.dim() == dims + 2 else means.squeeze(0)


def _by_distance(win: Window, sigma: float) -> tuple[float, ...]:
    if not number(sigma, "sigma") > 0:
        raise GeometryError(f"sigma is {sigma}; give a distance in cells above 0")
    return products(
        [
            [math.exp(-(((i - (r - 1) / 2) * d) ** 2) / (2 * sigma**2)) for i in range(r)]
            for r, d in zip(map(index, win.kernel_size), map(index, win.dilation), strict=True)
        ]
    )


def _filter(win: Window, weights: tuple[float, ...], places: Sequence[int]) -> Filter:
    return Filter(
        weights=weights,
        kernel_size=win.kernel_size,
        stride=win.stride,
        before=tuple(begin for begin, _ in win.padding),
        dilation=win.dilation,
        places=tuple(places),
        border=ZEROS,
        mean=True,
    )


def _is_constant(weights: Tensor) -> bool:
    """Whether these are numbers at hand that nobody trains; a subclass of tensors may have none."""
    return type(weights) in (Tensor, Parameter) and weights.is_cpu and not is_watched(weights)


def _given(win: Window, weights: Tensor | None, input: Tensor) -> Tensor:
    """Weights that may be trained: a convolution knows their gradient."""
    if weights is None or tuple(weights.shape) != win.kernel_size:
        shape = None if weights is None else tuple(weights.shape)
        raise GeometryError(f"weights have shape {shape}; give {win.kernel_size}, the window's")
    return weights.to(device=input.device, dtype=input.dtype)


def _sums(maps: Tensor, kernel: Tensor, win: Window) -> Tensor:
    """The weighted sums at every place of the window, padding and what ceil mode adds counting 0."""
    size = maps.shape[2:]
    places = win.output_size(size)
    begin = tuple(b for b, _ in win.padding)
    as_torch = [(h + 2 * b - e) // s + 1 for h, b, e, s in zip(size, begin, win.effective, win.stride, strict=True)]
    if as_torch == list(places):  # the same windows, and no padded copy
        return _correlate(maps, kernel, win, begin)
    pads: list[int] = []
    for axis in reversed(range(win.dims)):
        reach = (places[axis] - 1) * win.stride[axis] + win.effective[axis]
        pads += [begin[axis], reach - begin[axis] - size[axis]]
    return _correlate(functional.pad(maps, pads), kernel, win, 0)


def _correlate(maps: Tensor, kernel: Tensor, win: Window, padding: tuple[int, ...] | int) -> Tensor:
    # A copy for each channel: PyTorch takes an expanded kernel another way, which takes several times as long.
    kernels = kernel.expand(maps.shape[1], 1, *kernel.shape).contiguous()
    run = _CONVOLUTIONS[win.dims]
    return run(maps, kernels, stride=win.stride, padding=padding, dilation=win.dilation, groups=maps.shape[1])
