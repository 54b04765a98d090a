"""Adaptive pooling on CUDA, global pooling with it, by the kernels in `bins_kernels`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import triton.language as tl
from torch import Tensor

from switchgrad.gpu import bins_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch, lowest
from switchgrad.gpu.maps import TILE, Maps, Tiles, cut, empty_laid_out, is_wide, power_of_two
from switchgrad.layout import empty_in_layout_of

_SIDE_BY_SIDE = 8  # cells of a bin at a time where the channels already lie side by side


def adaptive_avg_pool(input: Tensor, output_size: Sequence[int]) -> Tensor:
    """The mean of each bin."""
    values = empty_in_layout_of(input, _with_size(input, output_size), input.dtype)
    _each_bin(kernels.bin_average, input, values, (input, values), len(output_size))
    return values


def adaptive_avg_pool_spread(pooled: Tensor, input_size: Sequence[int], channels_last: bool) -> Tensor:
    """Each pooled number shared out evenly to the cells of its bin."""
    total = empty_laid_out(pooled, _with_size(pooled, input_size), channels_last)
    dims = len(input_size)
    sent, result = Maps.of(pooled, dims), Maps.of(total, dims)
    tiles = Tiles.over(result)
    launch(
        kernels.bin_spread,
        tiles.grid,
        pooled,
        total,
        tiles.rows,
        tiles.columns,
        result.channels,
        result.size,
        sent.size,
        sent.strides,
        tuple(-(-p // h) + 1 for h, p in zip(result.size, sent.size, strict=True)),
        ACC=accumulator(pooled.dtype),
        **cut(tiles, result, _is_wide(sent, result)),
    )
    return total


def largest_of_bins(input: Tensor, values: Tensor, winners: Tensor | None, dims: int) -> None:
    """Fill ``values``, and ``winners`` (of any integer type) if they are wanted; one bin may be the whole map."""
    wide = input.numel() >= 2**31
    _each_bin(
        kernels.bin_maximum,
        input,
        values,
        (input, values, values if winners is None else winners),
        dims,
        LOWEST=lowest(input.dtype),
        CODED=winners is not None,
        INDEX=tl.int64 if wide else tl.int32,
        BEYOND=2**63 - 1 if wide else 2**31 - 1,
    )


def _each_bin(kernel: Any, input: Tensor, values: Tensor, tensors: tuple[Tensor, ...], dims: int, **more: Any) -> None:
    given, result = Maps.of(input, dims), Maps.of(values, dims)
    most = math.prod(_longest(h, p) for h, p in zip(given.size, result.size, strict=True))
    cells = min(power_of_two(most), _SIDE_BY_SIDE if given.strides[1] == 1 else TILE)
    outputs = min(TILE // cells, power_of_two(result.cells))
    columns = result.channels if result.channels_last else result.size[2]
    launch(
        kernel,
        (-(-result.cells // outputs),),
        *tensors,
        result.cells // columns if columns else 0,
        columns,
        result.channels,
        given.size,
        result.size,
        given.strides,
        most,
        **more,
        ACC=accumulator(input.dtype),
        LAST=result.channels_last,
        OUTPUTS=outputs,
        CELLS=cells,
        WIDE=_is_wide(given, result),
    )


def _with_size(tensor: Tensor, size: Sequence[int]) -> tuple[int, ...]:
    """The shape of a tensor with other spatial axes."""
    return (*tensor.shape[: -len(size)], *(int(cells) for cells in size))


def _longest(size: int, places: int) -> int:
    """Cells that a bin has at most along an axis."""
    return size // places if size % places == 0 else min(-(-size // places) + 1, size)


def _is_wide(*maps: Maps) -> bool:
    """Whether offsets, or products of an input's and an output's size, need 64 bits."""
    products = (math.prod(sizes) for sizes in zip(*(each.size for each in maps), strict=True))
    return is_wide(*maps) or any(product + max(map(max, (m.size for m in maps))) >= 2**31 for product in products)
