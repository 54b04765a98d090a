"""Starting the kernel of blocks that end in a pool, and the plainest of them: ReLU and max pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.gpu import block_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch
from switchgrad.gpu.maps import Maps, Tiles, cut, is_wide
from switchgrad.gpu.max_pool import constants, pooled_shape
from switchgrad.layout import code_dtype, empty_in_layout_of

PLAIN, BIAS, NORM = kernels.PLAIN.value, kernels.BIAS.value, kernels.NORM.value


def relu_max_pool(input: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and codes."""
    win = window_of(window)
    values, codes = empty_outputs(input, input, win)
    pool_block(input, values, codes, None, win, kind=PLAIN, relu=True)
    return values, codes


def relu_max_pool_values(input: Tensor, window: Sequence[int]) -> Tensor:
    """Values alone."""
    win = window_of(window)
    values = empty_in_layout_of(input, pooled_shape(input, win), input.dtype)
    pool_block(input, values, None, None, win, kind=PLAIN, relu=True)
    return values


def empty_outputs(input: Tensor, like: Tensor, win: Window) -> tuple[Tensor, Tensor]:
    """Values and codes of the pooled ``input``, in the layout of ``like``."""
    shape = pooled_shape(input, win)
    return empty_in_layout_of(like, shape, input.dtype), empty_in_layout_of(like, shape, code_dtype(win.cells))


def pool_block(
    input: Tensor,
    values: Tensor,
    codes: Tensor | None,
    numbers: Tensor | None,
    win: Window,
    *,
    kind: int,
    relu: bool,
) -> None:
    """Fill ``values`` and ``codes`` (not where they are None) from the input and its channels' numbers."""
    given, result = Maps.of(input, win.dims), Maps.of(values, win.dims)
    tiles = Tiles.over(result)
    launch(
        kernels.pool_block,
        tiles.grid,
        input,
        values,
        values if codes is None else codes,
        input if numbers is None else numbers,
        tiles.rows,
        tiles.columns,
        given.channels,
        given.size,
        result.size,
        given.strides,
        **constants(win, result.size),
        ACC=accumulator(input.dtype),
        KIND=kind,
        RELU=relu,
        CODED=codes is not None,
        **cut(tiles, result, is_wide(given, result)),
    )


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What numbers of a dtype are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32
