"""Blurred subsampling, which does not alias."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, is_integer, window
from switchgrad.ops import linear_maps
from switchgrad.ops.checks import check_floats
from switchgrad.ops.filter_pool import REFLECT, REPLICATE, ZEROS, Filter, products

__all__ = ["blur_pool1d", "blur_pool2d", "blur_pool3d"]

Border: TypeAlias = Literal["reflect", "replicate", "zeros"]
_BORDERS = {"zeros": ZEROS, "replicate": REPLICATE, "reflect": REFLECT}
_MOST = 1000  # a binomial coefficient of more cells is no float64


def blur_pool2d(
    input: Tensor, kernel_size: int = 3, stride: IntOrTuple = 2, padding_mode: Border = "reflect"
) -> Tensor:
    r"""The map blurred by a binomial filter and then subsampled: shifting the input no longer changes what is kept.

    Shapes: :math:`(N, C, H, W)` or :math:`(C, H, W)` to :math:`P = \lfloor (H - 1) / s \rfloor + 1` rows, and columns
    alike. ``kernel_size``: how many binomial coefficients, 1 (none: plain subsampling), 2 (1 1), 3 (1 2 1) and so on,
    by their sum, along both axes. ``padding_mode``: what lies beyond the border: "reflect" (the paper), "replicate" or
    "zeros"; :math:`\lfloor (R - 1) / 2 \rfloor` cells before and the rest after.

    NaN and infinities spread to the cells whose filter holds them. Backward: the filter turned around, what reached
    over the border folded back; linear and deterministic, nothing is kept. Put it after a max pooling of stride 1
    (MaxBlurPool) or in place of a stride in a convolution.

    Raises `GeometryError` for a kernel size below 1, a map too small to be reflected, an unknown padding mode, and
    where `avg_pool2d` does.

    Zhang: Making convolutional networks shift-invariant again (2019).

    >>> import torch
    >>> blur_pool2d(torch.tensor([[[0.0, 0.0, 4.0, 0.0, 0.0]]]).expand(1, 5, 5), stride=(5, 2))
    tensor([[[0., 2., 0.]]])
    >>> blur_pool2d(torch.ones(1, 3, 9, 9), 5).shape
    torch.Size([1, 3, 5, 5])
    """
    return _blur(2, input, kernel_size, stride, padding_mode)


def blur_pool1d(
    input: Tensor, kernel_size: int = 3, stride: IntOrTuple = 2, padding_mode: Border = "reflect"
) -> Tensor:
    """The signal blurred by a binomial filter and then subsampled: `blur_pool2d` along one axis.

    >>> import torch
    >>> blur_pool1d(torch.tensor([[0.0, 0.0, 4.0, 0.0, 0.0]]), stride=1)
    tensor([[0., 1., 2., 1., 0.]])
    """
    return _blur(1, input, kernel_size, stride, padding_mode)


def blur_pool3d(
    input: Tensor, kernel_size: int = 3, stride: IntOrTuple = 2, padding_mode: Border = "reflect"
) -> Tensor:
    """The volume blurred by a binomial filter and then subsampled: `blur_pool2d` along three axes.

    >>> import torch
    >>> blur_pool3d(torch.ones(1, 3, 8, 9, 9), stride=(1, 2, 2)).shape
    torch.Size([1, 3, 8, 5, 5])
    """
    return _blur(3, input, kernel_size, stride, padding_mode)


def _blur(dims: int, input: Tensor, kernel_size: int, stride: IntOrTuple, padding_mode: Border) -> Tensor:
    check_floats(input, dims, f"blur_pool{dims}d")
    if not is_integer(kernel_size) or not 1 <= kernel_size <= _MOST:
        raise GeometryError(f"kernel_size is {kernel_size!r}; give 1 to {_MOST} binomial coefficients")
    if padding_mode not in _BORDERS:
        raise GeometryError(f'padding_mode is "{padding_mode}"; give "reflect", "replicate" or "zeros"')
    steps = window(dims, 1, stride).stride
    size = input.shape[-dims:]
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    if padding_mode == "reflect" and min(size) <= after:
        raise GeometryError(
            f"a map of {tuple(size)} cannot be reflected over {after} cells; use a smaller kernel_size or "
            'padding_mode="replicate"'
        )
    row = _binomial(kernel_size)
    blur = Filter(
        weights=products([[share / sum(row) for share in row]] * dims),
        kernel_size=(kernel_size,) * dims,
        stride=steps,
        before=(before,) * dims,
        dilation=(1,) * dims,
        places=tuple((h - 1) // s + 1 for h, s in zip(size, steps, strict=True)),
        border=_BORDERS[padding_mode],
    )
    return linear_maps.apply(input, blur)


def _binomial(count: int) -> list[int]:
    """A row of Pascal's triangle."""
    row = [1]
    for _ in range(count - 1):
        row = [left + right for left, right in zip([0, *row], [*row, 0], strict=True)]
    return row
