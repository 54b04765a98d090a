"""Pooling over boxes on CUDA, by the kernels in `regions_kernels`: sums with weights, maxima, and the ways back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.gpu import regions_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch
from switchgrad.gpu.maps import Maps, Tiles, cut, empty_laid_out, is_wide, power_of_two
from switchgrad.layout import empty_in_layout_of

_BINS = 128  # that one program finds the bounds of


@dataclass(frozen=True, slots=True)
class Axis:
    """What bins (K, places) hold of the cells of one axis: weights (K, places, cells), and where those lie."""

    low: Tensor
    high: Tensor
    weights: Tensor


def roi_align(
    input: Tensor,
    boxes: Tensor,
    places: Sequence[int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
    sensitive: bool,
) -> Tensor:
    """The means of the interpolated samples of each bin."""
    sizes = list(zip(places, input.shape[2:], strict=True))
    axes = [_samples(boxes, 1 - i, *sizes[i], scale, sampling_ratio, aligned) for i in (0, 1)]
    return _sums(input, boxes, axes, sensitive)


def roi_align_spread(
    pooled: Tensor,
    boxes: Tensor,
    size: Sequence[int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
    sensitive: bool,
    channels_last: bool,
) -> Tensor:
    """Each pooled number added to the cells of its samples, times their weights."""
    sizes = list(zip(pooled.shape[2:], (int(cells) for cells in size[2:]), strict=True))
    axes = [_samples(boxes, 1 - i, *sizes[i], scale, sampling_ratio, aligned) for i in (0, 1)]
    return _spread(pooled, boxes, axes, size, sensitive, channels_last)


def roi_average(input: Tensor, boxes: Tensor, places: Sequence[int], scale: float, sensitive: bool) -> Tensor:
    """The means of the whole cells of each bin."""
    sizes = list(zip(places, input.shape[2:], strict=True))
    return _sums(input, boxes, [_means(boxes, 1 - i, *sizes[i], scale, sensitive) for i in (0, 1)], sensitive)


def roi_average_spread(
    pooled: Tensor, boxes: Tensor, size: Sequence[int], scale: float, sensitive: bool, channels_last: bool
) -> Tensor:
    """Each pooled number shared out evenly to the cells of its bin."""
    sizes = list(zip(pooled.shape[2:], (int(cells) for cells in size[2:]), strict=True))
    axes = [_means(boxes, 1 - i, *sizes[i], scale, sensitive) for i in (0, 1)]
    return _spread(pooled, boxes, axes, size, sensitive, channels_last)


def roi_max(input: Tensor, boxes: Tensor, places: Sequence[int], scale: float) -> tuple[Tensor, Tensor]:
    """The largest cell of each bin, and its flat place in its map (-1: the bin has none)."""
    shape = (boxes.shape[0], input.shape[1], int(places[0]), int(places[1]))
    values = empty_in_layout_of(input, shape, input.dtype)
    winners = empty_in_layout_of(input, shape, torch.int32)
    bounds = [_bounds(boxes, 1 - i, shape[2 + i], input.shape[2 + i], scale, True) for i in (0, 1)]
    given, result = Maps.of(input, 2), Maps.of(values, 2)
    tiles = Tiles.over(result)
    launch(
        kernels.box_maxima,
        tiles.grid,
        input,
        boxes.contiguous(),
        *bounds[0],
        *bounds[1],
        values,
        winners,
        tiles.rows,
        tiles.columns,
        result.channels,
        input.shape[3],
        result.size,
        given.strides,
        ACC=accumulator(input.dtype),
        **cut(tiles, result, is_wide(given, result)),
    )
    return values, winners


def roi_max_route(pooled: Tensor, boxes: Tensor, winners: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    """Each pooled number added to the cell that its bin's winner is."""
    pooled = torch.empty_like(winners, dtype=pooled.dtype).copy_(pooled)  # the numbers lie as the winners do
    width = int(size[3])
    rows = winners.div(width, rounding_mode="floor")
    # The rows that the winners of a bin's channels and columns lie in; only these have to look at it.
    high = (rows.amax((1, 3)) + 1).contiguous()
    low = torch.where(winners >= 0, rows, torch.iinfo(torch.int32).max).amin((1, 3)).contiguous()
    nothing = pooled.new_empty(0)
    return _back(pooled, winners, boxes, Axis(low, high, nothing), nothing, size, False, channels_last)


def _samples(
    boxes: Tensor, axis: int, places: int, size: int, scale: float, sampling_ratio: int, aligned: bool
) -> Axis:
    weights = boxes.new_empty((boxes.shape[0], int(places), size))
    rows = boxes.shape[0] * int(places)
    columns = min(power_of_two(size), 128)
    tiles = Tiles(rows, size, max(1, 1024 // columns), columns)
    launch(
        kernels.sample_weights,
        tiles.grid if rows else (0,),
        boxes.contiguous(),
        weights,
        rows,
        size,
        torch.full((), scale, dtype=boxes.dtype, device=boxes.device),
        RATIO=sampling_ratio,
        ALIGNED=aligned,
        AXIS=axis,
        PLACES=int(places),
        ROWS=tiles.block_rows,
        COLUMNS=tiles.block_columns,
    )
    used = (weights != 0).to(torch.int32)
    some = used.amax(-1)
    low = used.argmax(-1).to(torch.int32)
    high = torch.where(some > 0, size - used.flip(-1).argmax(-1).to(torch.int32), low)
    return Axis(low, high.to(torch.int32), weights)


def _means(boxes: Tensor, axis: int, places: int, size: int, scale: float, sensitive: bool) -> Axis:
    low, high = _bounds(boxes, axis, int(places), size, scale, not sensitive)
    cell = torch.arange(size, device=boxes.device)
    inside = (cell >= low.unsqueeze(-1)) & (cell < high.unsqueeze(-1))
    return Axis(low, high, inside.to(boxes.dtype) / (high - low).clamp_min(1).to(boxes.dtype).unsqueeze(-1))


def _bounds(boxes: Tensor, axis: int, places: int, size: int, scale: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    low, high = (torch.empty((boxes.shape[0], places), dtype=torch.int32, device=boxes.device) for _ in range(2))
    launch(
        kernels.whole_cells,
        (-(-low.numel() // _BINS),),
        boxes.contiguous(),
        low,
        high,
        low.numel(),
        size,
        torch.full((), scale, dtype=boxes.dtype, device=boxes.device),
        AXIS=axis,
        PLACES=places,
        INCLUSIVE=int(inclusive),
        ROWS=_BINS,
    )
    return low, high


def _sums(input: Tensor, boxes: Tensor, axes: list[Axis], sensitive: bool) -> Tensor:
    rows, columns = axes
    places = (rows.low.shape[1], columns.low.shape[1])
    channels = input.shape[1] // (places[0] * places[1]) if sensitive else input.shape[1]
    values = empty_in_layout_of(input, (boxes.shape[0], channels, *places), input.dtype)
    given, result = Maps.of(input, 2), Maps.of(values, 2)
    tiles = Tiles.over(result)
    launch(
        kernels.box_sums,
        tiles.grid,
        input,
        boxes.contiguous(),
        rows.weights,
        rows.low,
        rows.high,
        columns.weights,
        columns.low,
        columns.high,
        values,
        tiles.rows,
        tiles.columns,
        channels,
        input.shape[2],
        input.shape[3],
        result.size,
        given.strides,
        SENSITIVE=sensitive,
        ACC=accumulator(input.dtype),
        **cut(tiles, result, is_wide(given, result)),
    )
    return values


def _spread(
    pooled: Tensor, boxes: Tensor, axes: list[Axis], size: Sequence[int], sensitive: bool, channels_last: bool
) -> Tensor:
    rows, columns = axes
    return _back(pooled, None, boxes, rows, columns.weights, size, sensitive, channels_last)


def _back(
    pooled: Tensor,
    winners: Tensor | None,
    boxes: Tensor,
    rows: Axis,
    across: Tensor,
    size: Sequence[int],
    sensitive: bool,
    channels_last: bool,
) -> Tensor:
    batch, channels, height, width = (int(cells) for cells in size)
    total = empty_laid_out(pooled, (batch, channels, height, width), channels_last)
    pictures, order = boxes[:, 0].to(torch.int64).sort(stable=True)
    first_box = torch.searchsorted(pictures, torch.arange(batch + 1, device=boxes.device))
    block_columns = min(power_of_two(width), 4 if channels_last else 64)
    block_channels = min(power_of_two(channels), 128 if channels_last else 16)
    launch(
        kernels.box_spread,
        (batch * height, -(-channels // block_channels), -(-width // block_columns)),
        pooled,
        pooled if winners is None else winners,
        rows.weights,
        across,
        rows.low,
        rows.high,
        order,
        first_box,
        total,
        channels,
        height,
        width,
        tuple(pooled.shape[2:]),
        Maps.of(pooled, 2).strides,
        Maps.of(total, 2).strides,
        MAXIMA=winners is not None,
        SENSITIVE=sensitive,
        ACC=accumulator(pooled.dtype),
        LAST=channels_last,
        CHANNELS=block_channels,
        COLUMNS=block_columns,
    )
    return total
