"""RoI pooling with whole cells: the largest of each bin, its average, and its average in channels of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import IntOrTuple
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.regions.boxes import Boxes, bins, half_up, regions
from switchgrad.ops.regions.roi_align import check_channels
from switchgrad.ops.regions.sums import region_sums
from switchgrad.ops.routing import is_watched
from switchgrad.ops.windows import wide


def roi_pool(input: Tensor, boxes: Boxes, output_size: IntOrTuple, spatial_scale: float = 1.0) -> Tensor:
    r"""The largest value of each bin of each box: any box becomes a grid of fixed size.

    Shapes: ``input`` is (N, C, H, W); ``boxes`` (K, 5) rows of picture, x1, y1, x2, y2, or a list with (L, 4) for each
    picture; the result (K, C, P, Q) with ``output_size`` P, Q. float64, float32, float16, bfloat16; coordinates in
    pixels of the picture, ``spatial_scale`` cells a pixel.

    Fast R-CNN's quantisation: corners are rounded to whole cells (halves away from 0) and belong to the box, which is
    at least one cell wide: :math:`h = \max(\text{round}(s y_2) - \text{round}(s y_1) + 1, 1)`. Bin p holds the rows
    :math:`\lfloor p h / P \rfloor` to :math:`\lceil (p + 1) h / P \rceil - 1` of the box, cut to the map; bins may
    share rows. A bin without a cell gives 0.

    The semantics, names and arguments are torchvision's. Ties: the first cell in row-major order; NaN wins, of
    several the last.

    Backward: each gradient goes to its winner, summed over bins and boxes in their order: deterministic, from one
    int32 a pooled cell; to the features alone. Raises `GeometryError` for shapes that do not fit, pictures that the
    batch does not have, and coordinates that are not finite.

    Girshick: Fast R-CNN (2015), section 2.1.

    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_pool(x, torch.tensor([[0.0, 0.0, 0.0, 2.0, 3.0]]), 2)               # 4 rows, 3 columns
    tensor([[[[ 5.,  6.],
              [13., 14.]]]])
    """
    table, (p, q) = regions("roi_pool", input, boxes, output_size)
    bounds = _pool_bounds(input, table, (p, q), spatial_scale, inclusive=True)
    pictures = table[:, 0].to(torch.int64)
    if is_watched(input):
        values, _ = _RoIPool.apply(input, pictures, *bounds)
    else:
        values, _ = torch.ops.switchgrad.roi_max(input, pictures, *bounds)
    return in_layout_of(input, values)


def roi_avg_pool(input: Tensor, boxes: Boxes, output_size: IntOrTuple, spatial_scale: float = 1.0) -> Tensor:
    """The mean of each bin of each box: the bins of `roi_pool`, averaged.

    Shapes, boxes and quantisation as for `roi_pool`; a bin without a cell gives 0; half precision is summed in
    float32. NaN in a cell spreads over the box that has it in its bounds.

    Backward: each gradient is shared evenly by the cells of its bin; deterministic, memory as for `roi_align`.

    Girshick: Fast R-CNN (2015), with the mean in place of the maximum.

    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_avg_pool(x, torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0]]), 2)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    table, places = regions("roi_avg_pool", input, boxes, output_size)
    bounds = _pool_bounds(input, table, places, spatial_scale, inclusive=True)
    return in_layout_of(input, region_sums(input, *_means(input, table, bounds), False))


def ps_roi_pool(input: Tensor, boxes: Boxes, output_size: IntOrTuple, spatial_scale: float = 1.0) -> Tensor:
    r"""The mean of each bin of each box, every bin in channels of its own: position-sensitive RoI pooling.

    Shapes: ``input`` is (N, C P Q, H, W), the result (K, C, P, Q); channel :math:`(c P + p) Q + q` serves bin (p, q)
    of result channel c. Boxes as for `roi_pool`.

    Corners are rounded to whole cells (halves away from 0), the second one is not part of the box:
    :math:`h = \max(\text{round}(s y_2) - \text{round}(s y_1), 1)`, and bin p holds the rows
    :math:`\lfloor p h / P + y_1 \rfloor` to :math:`\lceil (p + 1) h / P + y_1 \rceil - 1`, cut to the map. A bin
    without a cell gives 0. The semantics, names and arguments are torchvision's; sums are taken in another order.

    Backward: each gradient is shared evenly by the cells of its bin; deterministic. Raises `GeometryError` as
    `roi_pool`, and where P Q does not divide the channels.

    Dai, Li, He, Sun: R-FCN: object detection via region-based fully convolutional networks (2016).

    >>> x = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 6, 6)
    >>> ps_roi_pool(x, torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]]), 2)
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """
    table, places = regions("ps_roi_pool", input, boxes, output_size)
    check_channels("ps_roi_pool", input, places)
    bounds = _pool_bounds(input, table, places, spatial_scale, inclusive=False)
    return in_layout_of(input, region_sums(input, *_means(input, table, bounds), True))


def _pool_bounds(
    input: Tensor, table: Tensor, places: tuple[int, int], scale: float, *, inclusive: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First and one past the last row, then column, of each bin."""
    x1, y1, x2, y2 = half_up(table[:, 1:] * scale).unbind(1)
    more = 1 if inclusive else 0
    height, width = (y2 - y1 + more).clamp_min(1), (x2 - x1 + more).clamp_min(1)
    rows = bins(y1, height, places[0], input.shape[2], from_zero=inclusive)
    columns = bins(x1, width, places[1], input.shape[3], from_zero=inclusive)
    return *rows, *columns


def _means(
    input: Tensor, table: Tensor, bounds: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    top, bottom, left, right = bounds
    rows, columns = (
        _share(low, high, size, table.dtype)
        for low, high, size in ((top, bottom, input.shape[2]), (left, right, input.shape[3]))
    )
    return table[:, 0].to(torch.int64), rows, columns


def _share(low: Tensor, high: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    cell = torch.arange(size, device=low.device)
    inside = (cell >= low.unsqueeze(-1)) & (cell < high.unsqueeze(-1))
    return inside.to(dtype) / (high - low).clamp_min(1).to(dtype).unsqueeze(-1)


# ---- the largest of each bin ---------------------------------------------------------------------------------------


class _RoIPool(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, pictures: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor
    ) -> tuple[Tensor, Tensor]:
        values, winners = torch.ops.switchgrad.roi_max(input, pictures, top, bottom, left, right)
        ctx.size = tuple(input.shape)
        ctx.mark_non_differentiable(winners)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(pictures, winners)
        return values, winners

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, None, None, None, None, None]:  # pyright: ignore
        if grad is None:
            return None, None, None, None, None, None
        pictures, winners = ctx.saved_tensors
        return _put(grad, pictures, winners, ctx.size), None, None, None, None, None


def _put(grad: Tensor, pictures: Tensor, winners: Tensor, size: tuple[int, ...]) -> Tensor:
    """Each gradient to its winner, box after box; written with differentiable operators, so it has a backward."""
    n, channels, h, w = size
    won = winners >= 0
    place = winners.clamp_min(0).to(torch.int64) + (pictures * (h * w)).reshape(-1, 1, 1, 1)
    flat, values = (t.transpose(0, 1).flatten(1) for t in (place, torch.where(won, wide(grad), 0)))
    total = values.new_zeros((channels, n * h * w)).scatter_add(1, flat, values)
    return total.unflatten(1, (n, h, w)).transpose(0, 1).to(grad.dtype).contiguous()


def _roi_max(
    input: Tensor, pictures: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """Values, and each winner's flat place in its map (-1 where a bin has no cell)."""
    maps = input.permute(0, 2, 3, 1).contiguous()  # channels side by side: one comparison serves them all
    shape = (len(pictures), top.shape[1], left.shape[1], input.shape[1])
    values, winners = input.new_zeros(shape), torch.full(shape, -1, dtype=torch.int32, device=input.device)
    some = ((bottom > top).unsqueeze(-1) & (right > left).unsqueeze(-2)).unsqueeze(1)
    spans = [(high - low).amax(1).tolist() for low, high in ((top, bottom), (left, right))]
    for k, (n, tall, broad) in enumerate(zip(pictures.tolist(), *spans, strict=True)):
        if tall > 0 and broad > 0:
            rows, columns = _cells(top[k], bottom[k], tall), _cells(left[k], right[k], broad)
            values[k], winners[k] = _largest(maps[n], rows, columns)
    values, winners = values.permute(0, 3, 1, 2), winners.permute(0, 3, 1, 2)
    return torch.where(some, values, 0).contiguous(), torch.where(some, winners, -1).contiguous()


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


def _roi_max_shape(
    input: Tensor, pictures: Tensor, top: Tensor, _: Tensor, left: Tensor, __: Tensor
) -> tuple[Tensor, Tensor]:
    shape = (pictures.shape[0], input.shape[1], top.shape[1], left.shape[1])
    return input.new_empty(shape), input.new_empty(shape, dtype=torch.int32)


LIBRARY.impl("roi_max", _roi_max, "CompositeExplicitAutograd")
torch.library.register_fake("switchgrad::roi_max", _roi_max_shape, lib=LIBRARY)
