"""Adaptive average and max pooling: as many windows as are asked for, whatever the input's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import MOST, is_integer, remembered
from switchgrad.ops import linear_maps
from switchgrad.ops.adaptive_pool.average import AdaptiveAveragePooling, fixed_bins
from switchgrad.ops.adaptive_pool.maximum import maxima, maxima_and_indices, maxima_and_switches
from switchgrad.ops.checks import check_map, check_map_of_floats, check_map_tensor
from switchgrad.ops.exporting import is_exporting
from switchgrad.ops.max_pool import check_map_of_numbers, max_pool1d, max_pool2d, max_pool3d

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
]

OutputSize: TypeAlias = "int | Sequence[int | None] | None"
_MAX_POOL: dict[int, Any] = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    r"""The means of ``output_size`` windows that cover the input evenly, whatever its size.

    Shapes: ``input`` is :math:`(N, C, H, W)` or :math:`(C, H, W)`, the result :math:`(N, C, P, Q)` or
    :math:`(C, P, Q)`. ``output_size``: an integer, or one for each axis; None keeps the input's size along an axis.
    Floating-point numbers; layout and dtype are the input's.

    Window :math:`p` of an axis of :math:`H` cells reaches from :math:`\lfloor p H / P \rfloor` up to, but not
    including, :math:`\lceil (p + 1) H / P \rceil`: PyTorch's rule. Where :math:`P` divides :math:`H` that is
    `avg_pool2d` with a window of :math:`H / P`; otherwise neighbours overlap by a cell; :math:`P > H` repeats cells.

    Backward: each cell gets the gradients of its windows, each by the number of its cells; deterministic. Every order
    of derivatives, forward mode, vmap, ``torch.compile`` and ``torch.export`` work.

    Raises `GeometryError` for an input of other axes or of integers, and for an output size below 1.

    The windows are those of a level of the pyramid in He, Zhang, Ren, Sun: Spatial pyramid pooling in deep
    convolutional networks for visual recognition (2014).

    >>> import torch
    >>> adaptive_avg_pool2d(torch.arange(12.0).reshape(1, 3, 4), (None, 2))
    tensor([[[ 0.5000,  2.5000],
             [ 4.5000,  6.5000],
             [ 8.5000, 10.5000]]])
    >>> adaptive_avg_pool2d(torch.rand(8, 64, 13, 17), 7).shape
    torch.Size([8, 64, 7, 7])
    """
    return _average(input, output_size, 2)


def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The means of ``output_size`` stretches of a signal: `adaptive_avg_pool2d` along one axis.

    >>> import torch
    >>> adaptive_avg_pool1d(torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0]]), 2)
    tensor([[3., 7.]])
    """
    return _average(input, output_size, 1)


def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The means of ``output_size`` boxes of a volume: `adaptive_avg_pool2d` along three axes.

    >>> import torch
    >>> adaptive_avg_pool3d(torch.arange(8.0).reshape(1, 2, 2, 2), (2, 1, 1)).flatten()
    tensor([1.5000, 5.5000])
    """
    return _average(input, output_size, 3)


def adaptive_max_pool2d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False, *, return_switches: bool = False
) -> Any:
    r"""The largest value of each of ``output_size`` windows that cover the input evenly, and on demand where it stood.

    Shapes, ``output_size`` and windows as for `adaptive_avg_pool2d`; dtypes, ties and NaN as for `max_pool2d`: the
    first of several maxima wins, NaN wins, of several NaN the last. ``return_indices`` adds PyTorch's flat int64
    indices; ``return_switches`` the one-byte `Switches` where every output size divides the input's (the windows are
    then those of `max_pool2d`), else `PlacedSwitches`, one byte each as well.

    Backward: the sum of the gradients of the windows that a cell won. Every order of derivatives, forward mode, vmap
    and ``torch.compile`` work.

    Raises `GeometryError` for an input of other axes, an output size below 1, and both flags at once.

    He, Zhang, Ren, Sun: Spatial pyramid pooling in deep convolutional networks for visual recognition (2014): a level
    of the pyramid.

    >>> import torch
    >>> values, indices = adaptive_max_pool2d(torch.arange(15.0).reshape(1, 3, 5), (2, 2), return_indices=True)
    >>> values.tolist(), indices.tolist()
    ([[[7.0, 9.0], [12.0, 14.0]]], [[[7, 9], [12, 14]]])
    """
    return _maximum(input, output_size, 2, return_indices, return_switches)


def adaptive_max_pool1d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False, *, return_switches: bool = False
) -> Any:
    """The largest value of each of ``output_size`` stretches of a signal: `adaptive_max_pool2d` along one axis.

    >>> import torch
    >>> adaptive_max_pool1d(torch.tensor([[1.0, 3.0, 5.0, 2.0, 4.0]]), 2)
    tensor([[5., 5.]])
    """
    return _maximum(input, output_size, 1, return_indices, return_switches)


def adaptive_max_pool3d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False, *, return_switches: bool = False
) -> Any:
    """The largest value of each of ``output_size`` boxes of a volume: `adaptive_max_pool2d` along three axes.

    >>> import torch
    >>> adaptive_max_pool3d(torch.arange(8.0).reshape(1, 2, 2, 2), (2, 1, 1)).flatten()
    tensor([3., 7.])
    """
    return _maximum(input, output_size, 3, return_indices, return_switches)


def _average(input: Tensor, output_size: OutputSize, dims: int) -> Tensor:
    check_map_tensor(input, "adaptive_avg_pool", dims)
    return linear_maps.apply(input, _averages(dims, input.shape, input.dtype, output_size))


@remembered
def _averages(dims: int, shape: Sequence[int], dtype: torch.dtype, output_size: OutputSize) -> AdaptiveAveragePooling:
    check_map_of_floats(shape, dtype, dims, f"adaptive_avg_pool{dims}d")
    return AdaptiveAveragePooling(sizes(shape, output_size, dims))


def _maximum(input: Tensor, output_size: OutputSize, dims: int, return_indices: bool, return_switches: bool) -> Any:
    check_map_tensor(input, "adaptive_max_pool", dims)
    places = _places(dims, input.shape, input.dtype, output_size)
    if is_exporting():
        fixed_bins(input, places)  # refuses sizes that are open, before they are compared
    kernel = _equal_windows(input.shape, places)
    if kernel is not None:
        return _MAX_POOL[dims](input, kernel, return_indices=return_indices, return_switches=return_switches)
    if return_indices and return_switches:
        raise GeometryError(
            "return_indices and return_switches are both set; ask for one (switches.to_indices() has the other)"
        )
    if return_switches:
        return maxima_and_switches(input, places)
    return maxima_and_indices(input, places) if return_indices else maxima(input, places)


@remembered
def _places(dims: int, shape: Sequence[int], dtype: torch.dtype, output_size: OutputSize) -> tuple[int, ...]:
    check_map(shape, dims, f"adaptive_max_pool{dims}d")
    check_map_of_numbers(shape, dtype, dims)
    return sizes(shape, output_size, dims)


@remembered
def _equal_windows(shape: Sequence[int], places: tuple[int, ...]) -> tuple[int, ...] | None:
    """The cells of a window along each axis, where all have as many."""
    size = shape[-len(places) :]
    if any(h % p for h, p in zip(size, places, strict=True)):
        return None
    return tuple(h // p for h, p in zip(size, places, strict=True))


def sizes(shape: Sequence[int], output_size: OutputSize, dims: int) -> tuple[int, ...]:
    """``output_size`` as one integer for each spatial axis, None replaced by the input's size."""
    given = list(output_size) if isinstance(output_size, Sequence) else [output_size] * dims
    if len(given) == 1:
        given = given * dims
    if len(given) != dims or any(p is not None and not (is_integer(p) and p >= 1) for p in given):
        raise GeometryError(
            f"output_size is {output_size!r}; give an integer of at least 1 or None, or {dims} of them, one for each "
            "spatial axis"
        )
    if any(p is not None and p > MOST for p in given):
        raise GeometryError(f"output_size is {output_size!r}; an axis has at most {MOST} windows, so give fewer")
    return tuple(h if p is None else p for h, p in zip(shape[-dims:], given, strict=True))
