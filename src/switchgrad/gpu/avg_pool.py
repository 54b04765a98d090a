"""Average pooling and its adjoint on CUDA, by the kernels in `avg_pool_kernels`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.gpu import avg_pool_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch
from switchgrad.gpu.maps import Maps, Tiles, cut, empty_laid_out, is_wide, three
from switchgrad.gpu.max_pool import constants, pooled_shape
from switchgrad.layout import empty_in_layout_of


def avg_pool(input: Tensor, window: Sequence[int], include: bool, divisor: float) -> Tensor:
    """Averages of all windows."""
    win = window_of(window)
    values = empty_in_layout_of(input, pooled_shape(input, win), input.dtype)
    given, result = Maps.of(input, win.dims), Maps.of(values, win.dims)
    tiles = Tiles.over(result)
    launch(
        kernels.average,
        tiles.grid,
        input,
        values,
        tiles.rows,
        tiles.columns,
        given.channels,
        given.size,
        result.size,
        given.strides,
        _ends(win),
        **constants(win, result.size),
        INCLUDE=include,
        DIVISOR=divisor,
        ACC=accumulator(input.dtype),
        **cut(tiles, result, is_wide(given, result)),
    )
    return values


def avg_pool_spread(
    pooled: Tensor,
    input_size: Sequence[int],
    window: Sequence[int],
    include: bool,
    divisor: float,
    channels_last: bool,
) -> Tensor:
    """Each pooled number by its divisor, added to every cell of its window."""
    win = window_of(window)
    size = tuple(int(cells) for cells in input_size)
    total = empty_laid_out(pooled, (*pooled.shape[: -win.dims], *size), channels_last)
    sent, result = Maps.of(pooled, win.dims), Maps.of(total, win.dims)
    tiles = Tiles.over(result)
    launch(
        kernels.spread,
        tiles.grid,
        pooled,
        total,
        tiles.rows,
        tiles.columns,
        result.channels,
        result.size,
        sent.size,
        sent.strides,
        _ends(win),
        **constants(win, sent.size),
        INCLUDE=include,
        DIVISOR=divisor,
        ACC=accumulator(pooled.dtype),
        **cut(tiles, result, is_wide(sent, result)),
    )
    return total


def _ends(win: Window) -> tuple[int, int, int]:
    """The padding at the end of each axis."""
    return three([end for _, end in win.padding], 0)
