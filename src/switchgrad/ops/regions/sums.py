"""Weighted sums over boxes whose weights are a product of one a row and one a column.

Every average and every interpolation over a box is such a sum: ``y[k, c, p, q] = sum over h, w of rows[k, p, h] *
columns[k, q, w] * x[n_k, c', h, w]`` with c' = c, or (position-sensitive) c' = (c P + p) Q + q. A cell without weight
takes no part, even where it is NaN or infinite. The kernels keep the weights that are not 0; here they are dense.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.checks import in_words
from switchgrad.ops.layout import empty_in_layout_of, in_layout_of
from switchgrad.ops.linear_maps import lies_channels_last
from switchgrad.ops.regions import weights
from switchgrad.ops.regions.mapped import in_one_batch
from switchgrad.ops.routing import Taped, recorder
from switchgrad.ops.windows import wide, without_autocast

Name = Literal["roi_align", "roi_average"]
Options = tuple[Any, ...]  # what the operator takes beside the boxes; the last one says whether it is sensitive
_WEIGHTS = {"roi_align": weights.samples, "roi_average": weights.means}


def region_sums(name: Name, input: Tensor, boxes: Tensor, places: tuple[int, int], options: Options) -> Tensor:
    """The sums, (K, C, P, Q), in the layout of the input. Linear in ``input``; backward is `region_spread`."""
    record = recorder(input, _Sums, _TransformedSums)
    if record is not None:
        return record(input, boxes, name, places, options)
    return _up(input, boxes, name, places, options)


def region_spread(
    name: Name, pooled: Tensor, boxes: Tensor, size: tuple[int, ...], options: Options, channels_last: bool
) -> Tensor:
    """Each pooled number added to the cells of its sum, times their weights: the adjoint of `region_sums`."""
    record = recorder(pooled, _Spread, _TransformedSpread)
    if record is not None:
        return record(pooled, boxes, name, size, options, channels_last)
    return _down(pooled, boxes, name, size, options, channels_last)


def _up(input: Tensor, boxes: Tensor, name: Name, places: tuple[int, int], options: Options) -> Tensor:
    return in_words(getattr(torch.ops.switchgrad, name), input, boxes, list(places), *options)


def _down(
    pooled: Tensor, boxes: Tensor, name: Name, size: tuple[int, ...], options: Options, channels_last: bool
) -> Tensor:
    return getattr(torch.ops.switchgrad, f"{name}_spread")(pooled, boxes, list(size), *options, channels_last)


class _Sums(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, boxes: Tensor, name: Name, places: tuple[int, int], options: Options
    ) -> Tensor:
        ctx.name, ctx.options, ctx.size = name, options, tuple(input.shape)
        ctx.channels_last = lies_channels_last(input, 2)
        ctx.save_for_backward(boxes)
        return _up(input, boxes, name, places, options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # pyright: ignore
        (boxes,) = ctx.saved_tensors
        spread = region_spread(ctx.name, grad, boxes, ctx.size, ctx.options, ctx.channels_last)
        return spread, None, None, None, None


class _Spread(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any,
        pooled: Tensor,
        boxes: Tensor,
        name: Name,
        size: tuple[int, ...],
        options: Options,
        channels_last: bool,
    ) -> Tensor:
        ctx.name, ctx.options, ctx.places = name, options, (pooled.shape[2], pooled.shape[3])
        ctx.save_for_backward(boxes)
        return _down(pooled, boxes, name, size, options, channels_last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:  # pyright: ignore
        (boxes,) = ctx.saved_tensors
        return region_sums(ctx.name, grad, boxes, ctx.places, ctx.options), None, None, None, None, None


class _TransformedSums(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        input: Tensor, boxes: Tensor, name: Name, places: tuple[int, int], options: Options
    ) -> Tensor:
        return _up(input, boxes, name, places, options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        input, boxes, ctx.name, ctx.places, ctx.options = inputs
        ctx.size, ctx.channels_last = tuple(input.shape), lies_channels_last(input, 2)
        ctx.save_for_backward(boxes)
        ctx.save_for_forward(boxes)

    backward = _Sums.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return region_sums(ctx.name, tangent, ctx.saved_tensors[0], ctx.places, ctx.options)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any,
        in_dims: Any,
        input: Tensor,
        boxes: Tensor,
        name: Name,
        places: tuple[int, int],
        options: Options,
    ) -> tuple[Tensor, int]:
        pictures = input.shape[0 if in_dims[0] != 0 else 1]
        maps, table = in_one_batch(info.batch_size, in_dims, input, boxes, pictures)
        return region_sums(name, maps, table, places, options).unflatten(0, (info.batch_size, -1)), 0


class _TransformedSpread(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        pooled: Tensor, boxes: Tensor, name: Name, size: tuple[int, ...], options: Options, channels_last: bool
    ) -> Tensor:
        return _down(pooled, boxes, name, size, options, channels_last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        pooled, boxes, ctx.name, ctx.size, ctx.options, ctx.channels_last = inputs
        ctx.places = (pooled.shape[2], pooled.shape[3])
        ctx.save_for_backward(boxes)
        ctx.save_for_forward(boxes)

    backward = _Spread.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return region_spread(ctx.name, tangent, ctx.saved_tensors[0], ctx.size, ctx.options, ctx.channels_last)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any,
        in_dims: Any,
        pooled: Tensor,
        boxes: Tensor,
        name: Name,
        size: tuple[int, ...],
        options: Options,
        channels_last: bool,
    ) -> tuple[Tensor, int]:
        many = info.batch_size
        grads, table = in_one_batch(many, in_dims, pooled, boxes, size[0])
        spread = region_spread(name, grads, table, (many * size[0], *size[1:]), options, channels_last)
        return spread.unflatten(0, (many, size[0])), 0


# ---- what they mean ------------------------------------------------------------------------------------------------


def reference_sums(name: Name, input: Tensor, boxes: Tensor, places: Sequence[int], *options: Any) -> Tensor:
    """Box after box, cut to the cells that have weight."""
    rows, columns = _WEIGHTS[name](boxes, (places[0], places[1]), (input.shape[2], input.shape[3]), *options)
    maps, pictures = wide(input), boxes[:, 0].to(torch.int64)
    finite = maps.isfinite()
    if bool(finite.all()):
        pooled = _sums(maps, pictures, rows, columns, options[-1])
    else:
        pooled = _sums(torch.where(finite, maps, 0), pictures, rows, columns, options[-1])
        pooled = pooled + _special(maps, pictures, rows, columns, options[-1])
    return in_layout_of(input, pooled.to(input.dtype))


def _special(maps: Tensor, pictures: Tensor, rows: Tensor, columns: Tensor, sensitive: bool) -> Tensor:
    """What NaN and infinities add to the sums that give them a weight."""
    rows, columns = (rows != 0).to(rows.dtype), (columns != 0).to(columns.dtype)
    added = torch.zeros((), dtype=maps.dtype, device=maps.device)
    for number, found in ((torch.nan, maps.isnan()), (torch.inf, maps == torch.inf), (-torch.inf, maps == -torch.inf)):
        count = _sums(found.to(maps.dtype), pictures, rows, columns, sensitive)
        added = added + torch.where(count > 0, number, 0)
    return added


def _sums(maps: Tensor, pictures: Tensor, rows: Tensor, columns: Tensor, sensitive: bool) -> Tensor:
    p, q = rows.shape[1], columns.shape[1]
    channels = maps.shape[1] // (p * q) if sensitive else maps.shape[1]
    behind = maps.permute(0, 2, 3, 1).contiguous()
    pooled = torch.zeros((rows.shape[0], p, q, channels), dtype=rows.dtype, device=maps.device)
    with without_autocast(maps):
        for k, n, ys, xs in _boxes(pictures, rows, columns):
            cut, down, across = behind[n, ys, xs], rows[k, :, ys], columns[k, :, xs]
            if sensitive:
                pooled[k] = torch.einsum("hwcpq,ph,qw->pqc", cut.unflatten(-1, (channels, p, q)), down, across)
            else:
                pooled[k] = across @ (down @ cut.flatten(1)).unflatten(1, cut.shape[1:])
    return pooled.permute(0, 3, 1, 2)


def reference_spread(name: Name, pooled: Tensor, boxes: Tensor, size: Sequence[int], *options: Any) -> Tensor:
    """The adjoint, box after box."""
    channels_last, options = options[-1], options[:-1]
    batch, channels, height, width = size
    places = (pooled.shape[2], pooled.shape[3])
    rows, columns = _WEIGHTS[name](boxes, places, (height, width), *options)
    grads = wide(pooled).permute(0, 2, 3, 1).contiguous()
    total = torch.zeros((batch, height, width, channels), dtype=rows.dtype, device=pooled.device)
    with without_autocast(pooled):
        for k, n, ys, xs in _boxes(boxes[:, 0].to(torch.int64), rows, columns):
            down, across, grad = rows[k, :, ys], columns[k, :, xs], grads[k]
            if options[-1]:
                total[n, ys, xs] += torch.einsum("pqc,ph,qw->hwcpq", grad, down, across).flatten(2)
            else:
                wide_rows = across.T @ grad
                total[n, ys, xs] += (down.T @ wide_rows.flatten(1)).unflatten(1, wide_rows.shape[1:])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return total.permute(0, 3, 1, 2).to(pooled.dtype).contiguous(memory_format=layout)


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


def _sums_shape(input: Tensor, boxes: Tensor, places: Sequence[int], *options: Any) -> Tensor:
    channels = input.shape[1] // (places[0] * places[1]) if options[-1] else input.shape[1]
    return empty_in_layout_of(input, (boxes.shape[0], channels, places[0], places[1]), input.dtype)


def _spread_shape(pooled: Tensor, _: Tensor, size: Sequence[int], *options: Any) -> Tensor:
    layout = torch.channels_last if options[-1] else torch.contiguous_format
    return torch.empty(tuple(size), dtype=pooled.dtype, device=pooled.device, memory_format=layout)


def _register(name: Name) -> None:
    def up(*args: Any) -> Tensor:
        return reference_sums(name, *args)

    def down(*args: Any) -> Tensor:
        return reference_spread(name, *args)

    for registered, run, shape in ((name, up, _sums_shape), (f"{name}_spread", down, _spread_shape)):
        LIBRARY.impl(registered, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"switchgrad::{registered}", shape, lib=LIBRARY)


_register("roi_align")
_register("roi_average")
