"""The largest cell of each bin of each box, and going by the winners' places: down to them and up from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.layout import empty_in_layout_of, in_layout_of
from switchgrad.ops.linear_maps import lies_channels_last
from switchgrad.ops.regions.mapped import in_one_batch, stacked
from switchgrad.ops.regions.weights import whole_cells
from switchgrad.ops.routing import Taped, recorder
from switchgrad.ops.windows import wide


def region_maxima(input: Tensor, boxes: Tensor, places: tuple[int, int], scale: float) -> tuple[Tensor, Tensor]:
    """Values, and each winner's flat place in its map as int32 (-1 where a bin has no cell); only these are kept."""
    record = recorder(input, _Maxima, _TransformedMaxima)
    if record is not None:
        return record(input, boxes, places, scale)
    return torch.ops.switchgrad.roi_max(input, boxes, list(places), scale)


class _Maxima(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, boxes: Tensor, places: tuple[int, int], scale: float
    ) -> tuple[Tensor, Tensor]:
        values, winners = torch.ops.switchgrad.roi_max(input, boxes, list(places), scale)
        ctx.size, ctx.channels_last = tuple(input.shape), lies_channels_last(input, 2)
        ctx.mark_non_differentiable(winners)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(boxes, winners)
        return values, winners

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, None, None, None]:  # pyright: ignore
        if grad is None:
            return None, None, None, None
        boxes, winners = ctx.saved_tensors
        return _route(grad, boxes, winners, ctx.size, ctx.channels_last), None, None, None


def _route(pooled: Tensor, boxes: Tensor, winners: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
    record = recorder(pooled, _Route, _TransformedRoute)
    if record is not None:
        return record(pooled, boxes, winners, size, channels_last)
    return torch.ops.switchgrad.roi_max_route(pooled, boxes, winners, list(size), channels_last)


def _gather(input: Tensor, boxes: Tensor, winners: Tensor) -> Tensor:
    record = recorder(input, _Gather, _TransformedGather)
    if record is not None:
        return record(input, boxes, winners)
    return torch.ops.switchgrad.roi_max_gather(input, boxes, winners)


class _Route(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, pooled: Tensor, boxes: Tensor, winners: Tensor, size: tuple[int, ...], channels_last: bool
    ) -> Tensor:
        ctx.save_for_backward(boxes, winners)
        return torch.ops.switchgrad.roi_max_route(pooled, boxes, winners, list(size), channels_last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # pyright: ignore
        return _gather(grad, *ctx.saved_tensors), None, None, None, None


class _Gather(Taped):
    @staticmethod
    def forward(ctx: Any, input: Tensor, boxes: Tensor, winners: Tensor) -> Tensor:  # pyright: ignore
        ctx.size, ctx.channels_last = tuple(input.shape), lies_channels_last(input, 2)
        ctx.save_for_backward(boxes, winners)
        return torch.ops.switchgrad.roi_max_gather(input, boxes, winners)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        boxes, winners = ctx.saved_tensors
        return _route(grad, boxes, winners, ctx.size, ctx.channels_last), None, None


class _TransformedMaxima(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        input: Tensor, boxes: Tensor, places: tuple[int, int], scale: float
    ) -> tuple[Tensor, Tensor]:
        return torch.ops.switchgrad.roi_max(input, boxes, list(places), scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # pyright: ignore
        input, boxes, _, _ = inputs
        ctx.size, ctx.channels_last = tuple(input.shape), lies_channels_last(input, 2)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(boxes, output[1])
        ctx.save_for_forward(boxes, output[1])

    backward = _Maxima.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: Any) -> tuple[Tensor | None, None]:  # pyright: ignore
        return None if tangent is None else _gather(tangent, *ctx.saved_tensors), None

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, input: Tensor, boxes: Tensor, places: tuple[int, int], scale: float
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        pictures = input.shape[0 if in_dims[0] != 0 else 1]
        maps, table = in_one_batch(info.batch_size, in_dims, input, boxes, pictures)
        values, winners = region_maxima(maps, table, places, scale)
        return tuple(t.unflatten(0, (info.batch_size, -1)) for t in (values, winners)), (0, 0)  # pyright: ignore


class _TransformedRoute(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        pooled: Tensor, boxes: Tensor, winners: Tensor, size: tuple[int, ...], channels_last: bool
    ) -> Tensor:
        return torch.ops.switchgrad.roi_max_route(pooled, boxes, winners, list(size), channels_last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        _, boxes, winners, ctx.size, ctx.channels_last = inputs
        ctx.save_for_backward(boxes, winners)
        ctx.save_for_forward(boxes, winners)

    backward = _Route.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        boxes, winners = ctx.saved_tensors
        return _route(tangent, boxes, winners, ctx.size, ctx.channels_last)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any,
        in_dims: Any,
        pooled: Tensor,
        boxes: Tensor,
        winners: Tensor,
        size: tuple[int, ...],
        channels_last: bool,
    ) -> tuple[Tensor, int]:
        many = info.batch_size
        grads, table = in_one_batch(many, in_dims, pooled, boxes, size[0])
        places = stacked(many, in_dims[2], winners).flatten(0, 1)
        routed = _route(grads, table, places, (many * size[0], *size[1:]), channels_last)
        return routed.unflatten(0, (many, size[0])), 0


class _TransformedGather(torch.autograd.Function):
    @staticmethod
    def forward(input: Tensor, boxes: Tensor, winners: Tensor) -> Tensor:  # pyright: ignore
        return torch.ops.switchgrad.roi_max_gather(input, boxes, winners)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        input, boxes, winners = inputs
        ctx.size, ctx.channels_last = tuple(input.shape), lies_channels_last(input, 2)
        ctx.save_for_backward(boxes, winners)
        ctx.save_for_forward(boxes, winners)

    backward = _Gather.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return _gather(tangent, *ctx.saved_tensors)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, input: Tensor, boxes: Tensor, winners: Tensor
    ) -> tuple[Tensor, int]:
        pictures = input.shape[0 if in_dims[0] != 0 else 1]
        maps, table = in_one_batch(info.batch_size, in_dims, input, boxes, pictures)
        places = stacked(info.batch_size, in_dims[2], winners).flatten(0, 1)
        return _gather(maps, table, places).unflatten(0, (info.batch_size, -1)), 0


# ---- what they mean ------------------------------------------------------------------------------------------------


def _roi_max(input: Tensor, boxes: Tensor, places: Sequence[int], scale: float) -> tuple[Tensor, Tensor]:
    size = (input.shape[2], input.shape[3])
    top, bottom, left, right = whole_cells(boxes, (places[0], places[1]), size, scale, inclusive=True)
    maps = input.permute(0, 2, 3, 1).contiguous()  # channels side by side: one comparison serves them all
    shape = (len(boxes), top.shape[1], left.shape[1], input.shape[1])
    values, winners = input.new_zeros(shape), torch.full(shape, -1, dtype=torch.int32, device=input.device)
    some = ((bottom > top).unsqueeze(-1) & (right > left).unsqueeze(-2)).unsqueeze(1)
    pictures = boxes[:, 0].to(torch.int64).tolist()
    spans = [(high - low).amax(1).tolist() for low, high in ((top, bottom), (left, right))]
    for k, (n, tall, broad) in enumerate(zip(pictures, *spans, strict=True)):
        if tall > 0 and broad > 0:
            rows, columns = _cells(top[k], bottom[k], tall), _cells(left[k], right[k], broad)
            values[k], winners[k] = _largest(maps[n], rows, columns)
    values, winners = values.permute(0, 3, 1, 2), winners.permute(0, 3, 1, 2)
    return in_layout_of(input, torch.where(some, values, 0)), in_layout_of(input, torch.where(some, winners, -1))


def _cells(low: Tensor, high: Tensor, span: int) -> Tensor:
    """(places, span): the cells of each bin; shorter bins repeat their last, which changes neither winner nor value."""
    steps = torch.arange(span, device=low.device)
    return torch.minimum(low.unsqueeze(-1) + steps, (high - 1).unsqueeze(-1)).clamp_min(0)


def _largest(plane: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """One box: the largest of each row of a bin, then the largest of these; so ties stay with the first cell."""
    above, before = rows[:, 0].amin(), columns[:, 0].amin()
    cut = plane[above : rows.amax() + 1, before : columns.amax() + 1]
    rows, columns = rows - above, columns - before
    if bool(cut.isnan().any()):
        value, y, x = _with_nan(cut, rows, columns)
    else:
        best, across = cut[:, columns].max(2)
        value, down = best[rows].max(1)
        places = [torch.arange(n, device=rows.device) for n in value.shape]
        y = rows[places[0][:, None, None], down]
        x = columns[places[1][:, None], across[y, places[1][:, None], places[2]]]
    return value, ((y + above) * plane.shape[1] + x + before).to(torch.int32)


def _with_nan(cut: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same with NaN in the box, over whole bins: the last NaN wins."""
    cells = cut[rows[:, None, :, None], columns[None, :, None, :]].flatten(2, 3)
    nan = cells.isnan()
    last = cells.shape[2] - 1 - nan.flip(2).to(torch.uint8).argmax(2)
    place = torch.where(nan.any(2), last, cells.argmax(2))
    value = cells.gather(2, place.unsqueeze(2)).squeeze(2)
    p, q = (torch.arange(n, device=rows.device) for n in value.shape[:2])
    y = rows[p[:, None, None], place // columns.shape[1]]
    return value, y, columns[q[:, None], place % columns.shape[1]]


def _roi_max_route(pooled: Tensor, boxes: Tensor, winners: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    """Each number to its winner, box after box."""
    n, channels, h, w = size
    flat, values = (t.transpose(0, 1).flatten(1) for t in (_places(boxes, winners, h * w), wide(pooled)))
    values = torch.where((winners >= 0).transpose(0, 1).flatten(1), values, 0)
    total = values.new_zeros((channels, n * h * w)).scatter_add(1, flat, values)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return total.unflatten(1, (n, h, w)).transpose(0, 1).to(pooled.dtype).contiguous(memory_format=layout)


def _roi_max_gather(input: Tensor, boxes: Tensor, winners: Tensor) -> Tensor:
    """What the winners' cells hold, 0 where a bin has none."""
    flat = _places(boxes, winners, input.shape[2] * input.shape[3]).transpose(0, 1)
    taken = input.transpose(0, 1).flatten(1).gather(1, flat.flatten(1)).reshape(flat.shape).transpose(0, 1)
    return in_layout_of(winners, torch.where(winners >= 0, taken, 0))


def _places(boxes: Tensor, winners: Tensor, cells: int) -> Tensor:
    """Places counted through all pictures."""
    return winners.clamp_min(0).to(torch.int64) + (boxes[:, 0].to(torch.int64) * cells).reshape(-1, 1, 1, 1)


def _maxima_shape(input: Tensor, boxes: Tensor, places: Sequence[int], _: float) -> tuple[Tensor, Tensor]:
    shape = (boxes.shape[0], input.shape[1], places[0], places[1])
    return empty_in_layout_of(input, shape, input.dtype), empty_in_layout_of(input, shape, torch.int32)


def _route_shape(pooled: Tensor, _: Tensor, __: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(size), dtype=pooled.dtype, device=pooled.device, memory_format=layout)


def _gather_shape(input: Tensor, _: Tensor, winners: Tensor) -> Tensor:
    return empty_in_layout_of(winners, tuple(winners.shape), input.dtype)


_OPERATORS = {
    "roi_max": (_roi_max, _maxima_shape),
    "roi_max_route": (_roi_max_route, _route_shape),
    "roi_max_gather": (_roi_max_gather, _gather_shape),
}
for _name, (_run, _shape) in _OPERATORS.items():
    LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _shape, lib=LIBRARY)
