"""Unpooling without switches: averages spread over their windows, nearest and linear interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Window, window
from switchgrad.ops import linear_maps
from switchgrad.ops.avg_pool import AveragePooling
from switchgrad.ops.checks import integers
from switchgrad.ops.exporting import is_exporting
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.windows import check_floats, per_axis, wide, without_autocast


def avg_unpool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    r"""Each average back over its window: the map that is flat in every window and has these averages.

    Shapes: ``input`` is (N, C, P, Q) or (C, P, Q), the result has ``output_size``, by default
    :math:`(P - 1) s + R - 2 b` along each axis, which is one of the sizes that pool to P; a size given must lie less
    than one stride from it. float64, float32, float16, bfloat16; the layout is the input's.

    .. math:: x_{hw} = \text{mean of } y_{pq} \text{ over the windows that hold } (h, w), \; 0 \text{ where none does}

    Where windows do not overlap, average pooling gives the input back. NaN spreads over its window.

    Backward: each average gets the gradients of its window's cells, each divided by the number of windows that hold the
    cell. Raises `GeometryError` for sizes that do not fit.

    Zeiler, Fergus: Visualizing and understanding convolutional networks (2014), with averages for maxima.

    >>> avg_unpool2d(torch.tensor([[[1.0, 2.0]]]), 2)
    tensor([[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]])
    """
    return _avg_unpool(2, input, kernel_size, stride, padding, output_size)


def avg_unpool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Each average back over its stretch of the signal: `avg_unpool2d` along one axis.

    >>> avg_unpool1d(torch.tensor([[1.0, 2.0]]), 3, stride=2)             # the middle cell is in both windows
    tensor([[1.0000, 1.0000, 1.5000, 2.0000, 2.0000]])
    """
    return _avg_unpool(1, input, kernel_size, stride, padding, output_size)


def avg_unpool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Each average back over its box of the volume: `avg_unpool2d` along three axes.

    >>> avg_unpool3d(torch.ones(1, 2, 2, 2), 2).shape
    torch.Size([1, 4, 4, 4])
    """
    return _avg_unpool(3, input, kernel_size, stride, padding, output_size)


def nearest_unpool2d(
    input: Tensor,
    scale: IntOrTuple | None = None,
    output_size: IntOrTuple | None = None,
) -> Tensor:
    r"""Each pooled value repeated over the cells that are nearest to it.

    Shapes: ``input`` is (N, C, P, Q) or (C, P, Q); the result is ``scale`` times as large, or has ``output_size``.
    float64, float32, float16, bfloat16; the layout is the input's.

    .. math:: x_h = y_p, \quad p = \lfloor (h + 1/2) \, P / H \rfloor

    so that cells go by their middles (PyTorch's "nearest-exact"). NaN and infinities are repeated like other
    values. Backward: each value gets the sum over its cells.
    Raises `GeometryError` for sizes that do not fit.

    Odena, Dumoulin, Olah: Deconvolution and checkerboard artifacts (2016).

    >>> nearest_unpool2d(torch.tensor([[[1.0, 2.0]]]), (1, 2))
    tensor([[[1., 1., 2., 2.]]])
    """
    return _resized(2, input, scale, output_size, "nearest-exact", None)


def nearest_unpool1d(
    input: Tensor,
    scale: IntOrTuple | None = None,
    output_size: IntOrTuple | None = None,
) -> Tensor:
    """Each pooled value repeated along the signal: `nearest_unpool2d` along one axis.

    >>> nearest_unpool1d(torch.tensor([[1.0, 2.0]]), output_size=3)
    tensor([[1., 2., 2.]])
    """
    return _resized(1, input, scale, output_size, "nearest-exact", None)


def nearest_unpool3d(
    input: Tensor,
    scale: IntOrTuple | None = None,
    output_size: IntOrTuple | None = None,
) -> Tensor:
    """Each pooled value repeated through the volume: `nearest_unpool2d` along three axes.

    >>> nearest_unpool3d(torch.ones(1, 1, 2, 2), 2).shape
    torch.Size([1, 2, 4, 4])
    """
    return _resized(3, input, scale, output_size, "nearest-exact", None)


def bilinear_unpool2d(
    input: Tensor,
    scale: IntOrTuple | None = None,
    output_size: IntOrTuple | None = None,
    align_corners: bool = False,
) -> Tensor:
    r"""Pooled values interpolated between their places.

    Shapes: ``input`` is (N, C, P, Q) or (C, P, Q); the result is ``scale`` times as large, or has ``output_size``.
    float64, float32, float16, bfloat16 (these two in float32); the layout is the input's.

    .. math:: x_h = (1 - t) y_p + t \, y_{p+1}, \quad p + t = (h + 1/2) P / H - 1/2, \text{ or } h (P - 1) / (H - 1)

    the second with ``align_corners``, which puts the corner cells upon each other; beyond the outermost values they
    continue. NaN and infinities make NaN what is interpolated with them, with weight 0 too. Backward: the
    interpolation's adjoint. Raises `GeometryError` for sizes that do not fit.

    Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation (2015).

    >>> bilinear_unpool2d(torch.tensor([[[0.0, 4.0]]]), (1, 2))
    tensor([[[0., 1., 3., 4.]]])
    """
    return _resized(2, input, scale, output_size, _LINEAR[2], align_corners)


def linear_unpool1d(
    input: Tensor,
    scale: IntOrTuple | None = None,
    output_size: IntOrTuple | None = None,
    align_corners: bool = False,
) -> Tensor:
    """Pooled values interpolated along the signal: `bilinear_unpool2d` along one axis.

    >>> linear_unpool1d(torch.tensor([[0.0, 4.0]]), output_size=3, align_corners=True)
    tensor([[0., 2., 4.]])
    """
    return _resized(1, input, scale, output_size, _LINEAR[1], align_corners)


def trilinear_unpool3d(
    input: Tensor,
    scale: IntOrTuple | None = None,
    output_size: IntOrTuple | None = None,
    align_corners: bool = False,
) -> Tensor:
    """Pooled values interpolated through the volume: `bilinear_unpool2d` along three axes.

    >>> trilinear_unpool3d(torch.ones(1, 2, 2, 2), 2).unique()
    tensor([1.])
    """
    return _resized(3, input, scale, output_size, _LINEAR[3], align_corners)


_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def _avg_unpool(
    dims: int,
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: IntOrTuple,
    output_size: Sequence[int] | None,
) -> Tensor:
    check_floats(f"avg_unpool{dims}d", input, dims)
    win = window(dims, kernel_size, stride, padding)
    size = _output_size(input.shape[-dims:], win, output_size)
    y = wide(input)
    total = _spread(y, win, size, linear_maps.lies_channels_last(input, dims))
    if any(s < r for s, r in zip(win.stride, win.kernel_size, strict=True)):
        count = _spread(y.new_ones((1, *y.shape[-dims:])), win, size, False)
        total = torch.where(count > 0, total / count.clamp_min(1), 0)
    return in_layout_of(input, total.to(input.dtype))


def _spread(pooled: Tensor, win: Window, size: Sequence[int], channels_last: bool) -> Tensor:
    """The sum of the windows' values at each cell."""
    places = pooled.shape[-win.dims :]
    if not is_exporting() and tuple(win.output_size(size)) == tuple(places):  # ONNX has transposed convolutions alone
        return linear_maps.adjoint(pooled, AveragePooling(win, True, 1), tuple(size), channels_last)
    lead = pooled.shape[: -win.dims]
    pooled = pooled.reshape(math.prod(lead), 1, *places)
    ones = pooled.new_ones((1, 1, *win.kernel_size))
    with without_autocast(pooled):
        laid = _TRANSPOSED[win.dims](pooled, ones, stride=win.stride)
    pads: list[int] = []
    for axis in reversed(range(win.dims)):
        begin = win.padding[axis][0]
        pads += [-begin, size[axis] + begin - laid.shape[axis + 2]]
    return functional.pad(laid, pads).reshape(*lead, *size)


def _output_size(places: Sequence[int], win: Window, output_size: Sequence[int] | None) -> tuple[int, ...]:
    usual = tuple(
        (p - 1) * s + r - begin - end
        for p, s, r, (begin, end) in zip(places, win.stride, win.kernel_size, win.padding, strict=True)
    )
    if output_size is None:
        return usual
    wanted = tuple(integers(output_size, "output_size", win.dims))[-win.dims :]
    if len(wanted) != win.dims or any(abs(w - u) >= s for w, u, s in zip(wanted, usual, win.stride, strict=True)):
        raise GeometryError(
            f"output_size is {tuple(output_size)}; each of its last {win.dims} entries must lie less than the stride "
            f"{win.stride} from {usual}"
        )
    return wanted


def _resized(
    dims: int,
    input: Tensor,
    scale: IntOrTuple | None,
    output_size: IntOrTuple | None,
    mode: str,
    align_corners: bool | None,
) -> Tensor:
    check_floats(f"unpooling over {dims} axes", input, dims)
    if (scale is None) == (output_size is None):
        raise GeometryError("give either scale or output_size")
    if scale is not None:
        size = tuple(h * s for h, s in zip(input.shape[-dims:], per_axis("scale", scale, dims), strict=True))
    else:
        size = per_axis("output_size", output_size if output_size is not None else 1, dims)
    y = wide(input)
    batched = y if input.dim() == dims + 2 else y.unsqueeze(0)
    options: dict[str, Any] = {} if align_corners is None else {"align_corners": align_corners}
    if batched.shape[0] == 0:
        resized = batched.sum(tuple(range(2, dims + 2)), keepdim=True).expand(*batched.shape[:2], *size)
    else:
        resized = functional.interpolate(batched, size, mode=mode, **options)
    resized = resized if input.dim() == dims + 2 else resized.squeeze(0)
    return in_layout_of(input, resized.to(input.dtype))
