"""Batch normalisation with ReLU and max pooling on CUDA: what `kernels.schema` computes, by `batch_norm_kernels`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.gpu import batch_norm_kernels as kernels
from switchgrad.gpu.blocks import NORM, empty_outputs, pool_block, wide_dtype
from switchgrad.gpu.launch import accumulator, launch
from switchgrad.gpu.maps import TILE, Maps, Tiles, cut, is_wide, power_of_two
from switchgrad.gpu.max_pool import constants, pooled_shape
from switchgrad.layout import empty_in_layout_of, memory_format_of

Optional: TypeAlias = Tensor | None

_STEPS = 32  # tiles that a program adds up lane by lane, at most: so few numbers lose nothing in float32
_PROGRAMS = 1024  # as long as there are cells, so many programs at least
_PIECES, _CHANNELS = 64, 16  # pieces that the second step adds side by side, and channels of one of its programs


@dataclass(frozen=True)
class Cells:
    """A compact tensor (N, C, ...) as cells of channels, in the kernels' terms, and how it is cut."""

    tensor: Tensor
    cells: int
    channels: int
    plane: int
    strides: tuple[int, int, int]  # of pictures, channels and the cells of a plane
    block: tuple[int, int]  # cells and channels of a tile

    @classmethod
    def of(cls, given: Tensor, like: Tensor | None = None) -> Cells:
        """``given``, made compact in its own memory format or that of ``like``."""
        form = memory_format_of(given if like is None else like)
        tensor = given.contiguous(memory_format=form)
        channels, plane = tensor.shape[1], math.prod(tensor.shape[2:])
        last = form is not torch.contiguous_format or given.dim() == 2
        strides = (plane * channels, 1, channels) if last else (plane * channels, plane, 1)
        wide = min(power_of_two(channels), 64) if last else 1
        cells = tensor.shape[0] * plane
        return cls(tensor, cells, channels, plane, strides, (min(TILE // wide, max(power_of_two(cells), 16)), wide))

    @property
    def blocks(self) -> int:
        """Programs side by side for all channels."""
        return -(-self.channels // self.block[1])

    @property
    def grid(self) -> tuple[int]:
        """Programs of one tile each."""
        return (-(-self.cells // self.block[0]) * self.blocks,)

    @property
    def chunk(self) -> int:
        """Cells of one piece of a sum, a multiple of a tile's."""
        tiles = -(-self.cells // self.block[0])
        wanted = -(-tiles * self.blocks // _PROGRAMS)
        return self.block[0] * max(min(_STEPS, wanted), 1)

    @property
    def pieces(self) -> int:
        """Pieces of a sum."""
        return -(-self.cells // self.chunk)

    @property
    def shape(self) -> tuple[Any, ...]:
        """What every kernel of cells wants to know, in its order."""
        return self.cells, self.channels, self.plane, self.strides

    def constants(self) -> dict[str, Any]:
        """What it wants to know when it is compiled."""
        wide = self.tensor.numel() > 2**31 - 2**26
        acc = accumulator(self.tensor.dtype)
        return {"ACC": acc, "CELLS": self.block[0], "CHANNELS": self.block[1], "WIDE": wide}

    def empty(self, rows: int, dtype: torch.dtype) -> Tensor:
        """So many numbers a channel."""
        return self.tensor.new_empty((rows, self.channels), dtype=dtype)

    def partial(self) -> Tensor:
        """Room for two sums a channel and piece."""
        return self.tensor.new_empty((self.pieces, self.channels, 2), dtype=torch.float64)

    @property
    def second_grid(self) -> tuple[int]:
        """Programs of the second step."""
        return (-(-self.channels // _CHANNELS),)


def batch_norm_relu(
    input: Tensor, weight: Optional, bias: Optional, mean: Optional, var: Optional, training: bool, eps: float
) -> tuple[Tensor, Tensor]:
    """Activations and statistics."""
    cells = Cells.of(input)
    statistics, numbers = _numbers(cells, weight, bias, mean, var, training, eps)
    output = torch.empty_like(cells.tensor)
    launch(kernels.apply, cells.grid, cells.tensor, output, numbers, *cells.shape, **cells.constants())
    return output, statistics


def batch_norm_relu_max_pool(input: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled values, codes and statistics."""
    norm, win = args[:6], window_of(args[6])
    statistics, numbers = _numbers(Cells.of(input), *norm)
    values, codes = empty_outputs(input, input, win)
    pool_block(input, values, codes, numbers, win, kind=NORM, relu=True)
    return values, codes, statistics


def batch_norm_relu_max_pool_values(input: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """Pooled values and statistics."""
    norm, win = args[:6], window_of(args[6])
    statistics, numbers = _numbers(Cells.of(input), *norm)
    values = empty_in_layout_of(input, pooled_shape(input, win), input.dtype)
    pool_block(input, values, None, numbers, win, kind=NORM, relu=True)
    return values, statistics


def batch_norm_relu_backward(
    grad: Tensor, input: Tensor, weight: Optional, bias: Optional, statistics: Tensor, training: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias."""
    cells = Cells.of(input)
    sent = Cells.of(grad, input).tensor
    numbers, partial = _fold(cells, statistics, weight, bias, eps), cells.partial()
    programs = (cells.pieces * cells.blocks,)
    launch(
        kernels.sums, programs, sent, cells.tensor, partial, numbers, *cells.shape, cells.chunk, **cells.constants()
    )  # fmt: skip
    of_weight, of_bias, terms = _settled_gradient(
        cells, cells.pieces, partial, statistics, numbers, weight, bias, training, eps
    )
    dx = torch.empty_like(cells.tensor)
    launch(kernels.gradient, cells.grid, sent, cells.tensor, dx, numbers, terms, *cells.shape, **cells.constants())
    return dx, of_weight, of_bias


def batch_norm_relu_max_pool_backward(
    grad: Tensor,
    input: Tensor,
    codes: Tensor,
    weight: Optional,
    bias: Optional,
    statistics: Tensor,
    training: bool,
    eps: float,
    window: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias; only winners have any of their own."""
    win = window_of(window)
    cells, sent, coded = Cells.of(input), Cells.of(grad, input), Cells.of(codes, input)
    numbers, partial = _fold(cells, statistics, weight, bias, eps), sent.partial()
    given, places = Maps.of(input, 2), Maps.of(sent.tensor, 2)
    launch(
        kernels.pooled_sums,
        (sent.pieces * sent.blocks,),
        sent.tensor,
        coded.tensor,
        input,
        partial,
        numbers,
        *sent.shape,
        places.size,
        given.size,
        given.strides,
        sent.chunk,
        **constants(win, places.size),
        **{**sent.constants(), "WIDE": is_wide(given, places)},
    )
    of_weight, of_bias, terms = _settled_gradient(
        cells, sent.pieces, partial, statistics, numbers, weight, bias, training, eps
    )
    dx = _pooled_gradient(sent.tensor, coded.tensor, input, numbers, terms, win)
    return dx, of_weight, of_bias


def batch_norm_move(mean: Tensor, var: Tensor, statistics: Tensor, momentum: float, count: int) -> None:
    """The running statistics take a step towards those of the batch, the variance unbiased."""
    launch(
        kernels.move,
        (-(-mean.numel() // TILE),),
        mean,
        var,
        statistics.contiguous(),
        mean.numel(),
        mean.stride(0),
        var.stride(0),
        KEPT=1 - momentum,
        TAKEN=momentum,
        TAKEN_VAR=momentum * count / (count - 1),
        ACC=accumulator(mean.dtype),
        CHANNELS=min(power_of_two(mean.numel()), TILE),
    )


def _numbers(
    cells: Cells, weight: Optional, bias: Optional, mean: Optional, var: Optional, training: bool, eps: float
) -> tuple[Tensor, Tensor]:
    """Statistics, of the input in training, and what the channels do to their cells."""
    if mean is not None and var is not None and not training:
        statistics = torch.stack([mean.double(), var.double()])
        return statistics, _fold(cells, statistics, weight, bias, eps)
    statistics, partial = cells.empty(2, torch.float64), cells.partial()
    numbers = cells.empty(3, wide_dtype(cells.tensor.dtype))
    programs = (cells.pieces * cells.blocks,)
    launch(
        kernels.statistics_sums, programs, cells.tensor, partial, *cells.shape, cells.chunk, **cells.constants()
    )  # fmt: skip
    launch(
        kernels.settle,
        cells.second_grid,
        cells.tensor,
        partial,
        _compact(weight),
        _compact(bias),
        statistics,
        numbers,
        cells.cells,
        cells.channels,
        cells.strides,
        cells.pieces,
        EPS=eps,
        ACC=accumulator(cells.tensor.dtype),
        PIECES=_PIECES,
        CHANNELS=_CHANNELS,
    )
    return statistics, numbers


def _fold(cells: Cells, statistics: Tensor, weight: Optional, bias: Optional, eps: float) -> Tensor:
    numbers = cells.empty(3, wide_dtype(cells.tensor.dtype))
    launch(
        kernels.fold,
        cells.second_grid,
        statistics,
        _compact(weight),
        _compact(bias),
        numbers,
        cells.channels,
        EPS=eps,
        CHANNELS=_CHANNELS,
    )
    return numbers


def _settled_gradient(
    cells: Cells,
    pieces: int,
    partial: Tensor,
    statistics: Tensor,
    numbers: Tensor,
    weight: Optional,
    bias: Optional,
    training: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = wide_dtype(cells.tensor.dtype)
    of_weight, of_bias = (
        numbers.new_empty(cells.channels, dtype=wide if t is None else t.dtype) for t in (weight, bias)
    )
    terms = cells.empty(2, wide)
    launch(
        kernels.settle_gradient,
        cells.second_grid,
        partial,
        statistics,
        numbers,
        of_weight,
        of_bias,
        terms,
        cells.cells,
        cells.channels,
        pieces,
        TRAINING=training,
        EPS=eps,
        PIECES=_PIECES,
        CHANNELS=_CHANNELS,
    )
    return of_weight, of_bias, terms


def _pooled_gradient(sent: Tensor, codes: Tensor, input: Tensor, numbers: Tensor, terms: Tensor, win: Window) -> Tensor:
    dx = empty_in_layout_of(input, tuple(input.shape), input.dtype)
    given, places, coded, result = (Maps.of(t, 2) for t in (input, sent, codes, dx))
    tiles = Tiles.over(result)
    launch(
        kernels.pooled_gradient,
        tiles.grid,
        sent,
        codes,
        input,
        dx,
        numbers,
        terms,
        tiles.rows,
        tiles.columns,
        result.channels,
        result.size,
        coded.size,
        places.strides,
        coded.strides,
        given.strides,
        **constants(win, coded.size),
        ACC=accumulator(input.dtype),
        **cut(tiles, result, is_wide(given, places, coded, result)),
    )
    return dx


def _compact(numbers: Optional) -> Optional:
    return None if numbers is None else numbers.contiguous()
