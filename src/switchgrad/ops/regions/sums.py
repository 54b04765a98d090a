"""Weighted sums over regions whose weights are a product of one a row and one a column.

Every average and every interpolation over a box is such a sum: ``y[k, c, p, q] = sum over h, w of rows[k, p, h] *
columns[k, q, w] * x[n_k, c', h, w]`` with c' = c, or (position-sensitive) c' = (c P + p) Q + q. Box after box, cut to
the cells that have weight: memory is that of the weights, K (P H + Q W) numbers, whatever the size of the map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.routing import is_watched
from switchgrad.ops.windows import wide


def region_sums(input: Tensor, pictures: Tensor, rows: Tensor, columns: Tensor, sensitive: bool) -> Tensor:
    """The sums, (K, C, P, Q). Linear in ``input``; backward is `region_spread`, deterministic and box by box."""
    if is_watched(input):
        return _Sums.apply(input, pictures, rows, columns, sensitive)
    return torch.ops.switchgrad.region_sums(input, pictures, rows, columns, sensitive)


def region_spread(
    pooled: Tensor, pictures: Tensor, rows: Tensor, columns: Tensor, sensitive: bool, size: Sequence[int]
) -> Tensor:
    """Each pooled number added to the cells of its sum, times their weights: the adjoint of `region_sums`."""
    if is_watched(pooled):
        return _Spread.apply(pooled, pictures, rows, columns, sensitive, tuple(size))
    return torch.ops.switchgrad.region_spread(pooled, pictures, rows, columns, sensitive, list(size))


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, pictures: Tensor, rows: Tensor, columns: Tensor, sensitive: bool
    ) -> Tensor:
        ctx.sensitive, ctx.size = sensitive, tuple(input.shape)
        ctx.save_for_backward(pictures, rows, columns)
        return torch.ops.switchgrad.region_sums(input, pictures, rows, columns, sensitive)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # pyright: ignore
        pictures, rows, columns = ctx.saved_tensors
        return region_spread(grad, pictures, rows, columns, ctx.sensitive, ctx.size), None, None, None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any,
        pooled: Tensor,
        pictures: Tensor,
        rows: Tensor,
        columns: Tensor,
        sensitive: bool,
        size: tuple[int, ...],
    ) -> Tensor:
        ctx.sensitive = sensitive
        ctx.save_for_backward(pictures, rows, columns)
        return torch.ops.switchgrad.region_spread(pooled, pictures, rows, columns, sensitive, list(size))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:  # pyright: ignore
        pictures, rows, columns = ctx.saved_tensors
        return region_sums(grad, pictures, rows, columns, ctx.sensitive), None, None, None, None, None


def _boxes(pictures: Tensor, rows: Tensor, columns: Tensor) -> Iterator[tuple[int, int, slice, slice]]:
    """For each box with any weight: its number, its picture, and the rows and columns that have weight."""
    ranges = [_extent(weights) for weights in (rows, columns)]
    for k, n in enumerate(pictures.tolist()):
        (top, bottom), (left, right) = ranges[0][k], ranges[1][k]
        if top < bottom and left < right:
            yield k, n, slice(top, bottom), slice(left, right)


def _extent(weights: Tensor) -> list[tuple[int, int]]:
    """First and one past the last cell that has weight, for each box."""
    used = (weights != 0).any(1)
    first = used.to(torch.uint8).argmax(-1)
    last = used.shape[-1] - used.flip(-1).to(torch.uint8).argmax(-1)
    return [
        (low, high if some else low)
        for low, high, some in zip(first.tolist(), last.tolist(), used.any(-1).tolist(), strict=True)
    ]


def _region_sums(input: Tensor, pictures: Tensor, rows: Tensor, columns: Tensor, sensitive: bool) -> Tensor:
    p, q = rows.shape[1], columns.shape[1]
    channels = input.shape[1] // (p * q) if sensitive else input.shape[1]
    maps = _channels_behind(input)
    pooled = torch.zeros((rows.shape[0], p, q, channels), dtype=rows.dtype, device=input.device)
    with torch.autocast(input.device.type, enabled=False):
        for k, n, ys, xs in _boxes(pictures, rows, columns):
            cut, down, across = maps[n, ys, xs], rows[k, :, ys], columns[k, :, xs]
            if sensitive:
                pooled[k] = torch.einsum("hwcpq,ph,qw->pqc", cut.unflatten(-1, (channels, p, q)), down, across)
            else:
                pooled[k] = across @ (down @ cut.flatten(1)).unflatten(1, cut.shape[1:])
    return pooled.permute(0, 3, 1, 2).to(input.dtype).contiguous()


def _region_spread(
    pooled: Tensor, pictures: Tensor, rows: Tensor, columns: Tensor, sensitive: bool, size: Sequence[int]
) -> Tensor:
    batch, channels, height, width = size
    grads = _channels_behind(pooled)
    total = torch.zeros((batch, height, width, channels), dtype=rows.dtype, device=pooled.device)
    with torch.autocast(pooled.device.type, enabled=False):
        for k, n, ys, xs in _boxes(pictures, rows, columns):
            down, across, grad = rows[k, :, ys], columns[k, :, xs], grads[k]
            if sensitive:
                total[n, ys, xs] += torch.einsum("pqc,ph,qw->hwcpq", grad, down, across).flatten(2)
            else:
                wide_rows = across.T @ grad
                total[n, ys, xs] += (down.T @ wide_rows.flatten(1)).unflatten(1, wide_rows.shape[1:])
    return total.permute(0, 3, 1, 2).to(pooled.dtype).contiguous()


def _channels_behind(tensor: Tensor) -> Tensor:
    """(N, H, W, C): with the channels side by side a box is a few large products instead of many small ones."""
    return wide(tensor).permute(0, 2, 3, 1).contiguous()


def _sums_shape(input: Tensor, _: Tensor, rows: Tensor, columns: Tensor, sensitive: bool) -> Tensor:
    p, q = rows.shape[1], columns.shape[1]
    return input.new_empty((rows.shape[0], input.shape[1] // (p * q) if sensitive else input.shape[1], p, q))


def _spread_shape(pooled: Tensor, *others: Any) -> Tensor:
    return pooled.new_empty(tuple(others[-1]))


LIBRARY.impl("region_sums", _region_sums, "CompositeExplicitAutograd")
LIBRARY.impl("region_spread", _region_spread, "CompositeExplicitAutograd")
torch.library.register_fake("switchgrad::region_sums", _sums_shape, lib=LIBRARY)
torch.library.register_fake("switchgrad::region_spread", _spread_shape, lib=LIBRARY)
