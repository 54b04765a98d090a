"""Stochastic pooling and max-pooling dropout on CUDA, by the kernels in `random_pool_kernels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.gpu import random_pool_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch, lowest
from switchgrad.gpu.maps import Maps, Tiles, cut, is_wide
from switchgrad.gpu.max_pool import constants, empty_pooled

_LARGEST_WORD = 2**32 - 1


def stochastic_pool(input: Tensor, seed: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and codes of the windows' draws."""
    bits = tl.int64 if input.dtype == torch.float64 else tl.int32
    return _pooled(kernels.stochastic_pool, input, seed, window_of(window), BITS=bits)


def max_pool_dropout(input: Tensor, seed: Tensor, p: float, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and codes of the largest that is left."""
    threshold = min(round(p * 2**32), _LARGEST_WORD)
    return _pooled(kernels.max_pool_dropout, input, seed, window_of(window), threshold)


def _pooled(kernel: Any, input: Tensor, seed: Tensor, win: Window, *more: int, **fixed: Any) -> tuple[Tensor, Tensor]:
    values, codes = empty_pooled(input, win)
    given, result = Maps.of(input, win.dims), Maps.of(values, win.dims)
    tiles = Tiles.over(result)
    launch(
        kernel,
        tiles.grid,
        input,
        seed.to(input.device),
        values,
        codes,
        *more,
        tiles.rows,
        tiles.columns,
        given.channels,
        given.size,
        result.size,
        given.strides,
        **constants(win, result.size),
        LOWEST=lowest(input.dtype),
        ACC=accumulator(input.dtype),
        **fixed,
        **cut(tiles, result, is_wide(given, result)),
    )
    return values, codes
