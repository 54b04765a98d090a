"""Lp pooling and its backward on CUDA, by the kernels in `lp_pool_kernels`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from switchgrad.geometry import window_of
from switchgrad.gpu import lp_pool_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch
from switchgrad.gpu.maps import Maps, Tiles, cut, is_wide
from switchgrad.gpu.max_pool import constants, pooled_shape
from switchgrad.layout import empty_in_layout_of

_MOST_FACTORS = 8  # of a power that is a product


def exponent(p: float) -> tuple[int, int, int, int, float]:
    """A power as the kernels take it: is it half a whole number, its whole part, has it a half, is it below 0, itself.

    >>> exponent(2.5), exponent(-0.5), exponent(0.3)
    ((1, 2, 1, 0, 2.5), (1, 0, 1, 1, -0.5), (0, 0, 0, 0, 0.3))
    """
    if float(2 * p).is_integer() and abs(p) <= _MOST_FACTORS:
        return 1, int(abs(p)), int(2 * abs(p)) % 2, int(p < 0), p
    return 0, 0, 0, 0, p


def lp_pool(input: Tensor, p: float, window: Sequence[int]) -> Tensor:
    """The p-norm of each window."""
    win = window_of(window)
    values = empty_in_layout_of(input, pooled_shape(input, win), input.dtype)
    given, result = Maps.of(input, win.dims), Maps.of(values, win.dims)
    tiles = Tiles.over(result)
    launch(
        kernels.norm,
        tiles.grid,
        input,
        values,
        tiles.rows,
        tiles.columns,
        given.channels,
        given.size,
        result.size,
        given.strides,
        POWER=exponent(p),
        ROOT=exponent(1 / p),
        **constants(win, result.size),
        ACC=accumulator(input.dtype),
        **cut(tiles, result, is_wide(given, result)),
    )
    return values


def lp_pool_spread(pooled: Tensor, input: Tensor, values: Tensor, p: float, window: Sequence[int]) -> Tensor:
    """What the input gets of the gradient ``pooled`` of the norms ``values``, in the layout of the input."""
    win = window_of(window)
    total = empty_in_layout_of(input, tuple(input.shape), input.dtype)
    sent, given, normed, result = (Maps.of(t, win.dims) for t in (pooled, input, values, total))
    tiles = Tiles.over(result)
    launch(
        kernels.spread,
        tiles.grid,
        pooled,
        input,
        values,
        total,
        tiles.rows,
        tiles.columns,
        result.channels,
        result.size,
        normed.size,
        sent.strides,
        given.strides,
        normed.strides,
        POWER=exponent(p - 1),
        **constants(win, normed.size),
        ACC=accumulator(input.dtype),
        **cut(tiles, result, is_wide(sent, given, normed, result)),
    )
    return total
