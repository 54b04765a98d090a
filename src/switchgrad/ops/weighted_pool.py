"""Averages whose weights fall with the distance from the central pixel, and blurred subsampling without aliasing."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.ops.checks import check_floats

__all__ = ["blur_pool2d", "weighted_avg_pool2d"]

Border: TypeAlias = Literal["reflect", "replicate", "zeros"]


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

    >>> import torch
    >>> x = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]])
    >>> weighted_avg_pool2d(x, 3, sigma=100.0).item(), weighted_avg_pool2d(x, 3, sigma=0.1).item()
    (1.0000..., 9.0)
    >>> weighted_avg_pool2d(x, 3, weights=torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]])).item()
    4.5
    """
    check_floats(input, 2, "weighted_avg_pool2d")
    size = input.shape[-2:]
    win = window(2, kernel_size, stride, padding, dilation, ceil_mode, size)
    places = win.output_size(size)
    kernel = _weights(win, sigma, weights, input)[None, None]
    maps = input.reshape(-1, 1, *size)
    sums = _correlate(maps, kernel, win, places)
    seen = _correlate(torch.ones_like(maps[:1]), kernel, win, places)
    nothing = seen == 0
    means = torch.where(nothing, 0, sums / torch.where(nothing, 1, seen))
    return means.reshape(*input.shape[:-2], *places)


def blur_pool2d(
    input: Tensor, kernel_size: int = 3, stride: IntOrTuple = 2, padding_mode: Border = "reflect"
) -> Tensor:
    r"""The map blurred by a binomial filter and then subsampled: shifting the input no longer changes what is kept.

    Shapes: :math:`(N, C, H, W)` or :math:`(C, H, W)` to :math:`P = \lfloor (H - 1) / s \rfloor + 1` rows, and columns
    alike. ``kernel_size``: how many binomial coefficients, 1 (none: plain subsampling), 2 (1 1), 3 (1 2 1) and so on,
    by their sum, along both axes. ``padding_mode``: what lies beyond the border: "reflect" (the paper), "replicate" or
    "zeros"; :math:`\lfloor (R - 1) / 2 \rfloor` cells before and the rest after.

    Linear: the backward is the filter turned around. Put it after a max pooling of stride 1 (MaxBlurPool) or in place
    of a stride in a convolution.

    Raises `GeometryError` for a kernel size below 1, a map too small to be reflected, an unknown padding mode, and
    where `avg_pool2d` does.

    Zhang: Making convolutional networks shift-invariant again (2019).

    >>> import torch
    >>> blur_pool2d(torch.tensor([[[0.0, 0.0, 4.0, 0.0, 0.0]]]).expand(1, 5, 5), stride=(5, 2))
    tensor([[[0., 2., 0.]]])
    >>> blur_pool2d(torch.ones(1, 3, 9, 9), 5).shape
    torch.Size([1, 3, 5, 5])
    """
    check_floats(input, 2, "blur_pool2d")
    if kernel_size < 1:
        raise GeometryError(f"kernel_size is {kernel_size}; give at least 1 binomial coefficient")
    modes = {"reflect": "reflect", "replicate": "replicate", "zeros": "constant"}
    if padding_mode not in modes:
        raise GeometryError(f'padding_mode is "{padding_mode}"; give "reflect", "replicate" or "zeros"')
    steps = window(2, 1, stride).stride
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    if padding_mode == "reflect" and min(input.shape[-2:]) <= after:
        raise GeometryError(
            f"a map of {tuple(input.shape[-2:])} cannot be reflected over {after} cells; use a smaller kernel_size or "
            'padding_mode="replicate"'
        )
    row = torch.tensor([math.comb(kernel_size - 1, i) / 2 ** (kernel_size - 1) for i in range(kernel_size)])
    kernel = torch.outer(row, row).to(device=input.device, dtype=input.dtype)
    channels = input.shape[-3]
    batch = input if input.dim() == 4 else input.unsqueeze(0)
    padded = functional.pad(batch, (before, after, before, after), modes[padding_mode])
    blurred = functional.conv2d(padded, kernel.expand(channels, 1, -1, -1), stride=steps, groups=channels)
    return blurred if input.dim() == 4 else blurred.squeeze(0)


def _weights(win: Window, sigma: float | None, weights: Tensor | None, input: Tensor) -> Tensor:
    if (sigma is None) == (weights is None):
        raise GeometryError("give either sigma, a distance in cells, or weights of the window's shape")
    if weights is not None:
        if tuple(weights.shape) != win.kernel_size:
            raise GeometryError(f"weights have shape {tuple(weights.shape)}; give {win.kernel_size}, the window's")
        return weights.to(device=input.device, dtype=input.dtype)
    if sigma is None or not sigma > 0:
        raise GeometryError(f"sigma is {sigma}; give a distance in cells above 0")
    away = [torch.arange(r, device=input.device) - (r - 1) / 2 for r in win.kernel_size]
    rows, columns = (torch.exp(-((a * d) ** 2) / (2 * sigma**2)) for a, d in zip(away, win.dilation, strict=True))
    return torch.outer(rows, columns).to(input.dtype)


def _correlate(maps: Tensor, kernel: Tensor, win: Window, places: tuple[int, ...]) -> Tensor:
    """The weighted sums at every place of the window, padding and what ceil mode adds counting 0."""
    pads: list[int] = []
    for axis in (1, 0):
        begin = win.padding[axis][0]
        reach = (places[axis] - 1) * win.stride[axis] + win.effective[axis]
        pads += [begin, reach - begin - maps.shape[axis - 2]]
    return functional.conv2d(functional.pad(maps, pads), kernel, stride=win.stride, dilation=win.dilation)
