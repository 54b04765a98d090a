"""Boxes on feature maps in ONNX: RoIAlign, RoI max pooling and non-maximum suppression are ONNX's own.

What ONNX has no operator for is a product with the weights of every bin over the whole map: exact, but with memory of
boxes times the map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.ops.exporting import refuse
from switchgrad.ops.lowering.nodes import node
from switchgrad.ops.regions import weights
from switchgrad.ops.windows import wide


def _roi_align(
    input: Tensor,
    boxes: Tensor,
    places: Sequence[int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
    sensitive: bool,
) -> Tensor:
    """ONNX's RoiAlign, whose rules are those of ours, for all channels; a product for position-sensitive bins."""
    if sensitive:
        return _sensitive_samples(input, boxes, places, scale, sampling_ratio)
    attributes = {
        "mode": "avg",
        "output_height": places[0],
        "output_width": places[1],
        "spatial_scale": float(scale),
        "sampling_ratio": max(sampling_ratio, 0),
        "coordinate_transformation_mode": "half_pixel" if aligned else "output_half_pixel",
    }
    shape = (boxes.shape[0], input.shape[1], *places)
    inputs = (input, boxes[:, 1:].to(input.dtype), boxes[:, 0].to(torch.int64))
    return node("RoiAlign", inputs, attributes, input.dtype, shape)


def _roi_max(input: Tensor, boxes: Tensor, places: Sequence[int], scale: float) -> tuple[Tensor, Tensor]:
    """ONNX's MaxRoiPool, whose quantisation is Fast R-CNN's; winners are for gradients alone, and drop out."""
    attributes = {"pooled_shape": list(places), "spatial_scale": float(scale)}
    shape = (boxes.shape[0], input.shape[1], *places)
    pooled = node("MaxRoiPool", (input, boxes.to(input.dtype)), attributes, input.dtype, shape)
    return pooled, torch.zeros_like(pooled, dtype=torch.int32)


def _roi_average(input: Tensor, boxes: Tensor, places: Sequence[int], scale: float, sensitive: bool) -> Tensor:
    size = (input.shape[2], input.shape[3])
    return _sums(input, boxes, *weights.means(boxes, (places[0], places[1]), size, scale, sensitive), sensitive)


def _sensitive_samples(
    input: Tensor, boxes: Tensor, places: Sequence[int], scale: float, sampling_ratio: int
) -> Tensor:
    if sampling_ratio <= 0:
        refuse(
            "position-sensitive RoIAlign with as many samples as each box is large",
            "ONNX has no loop over boxes for it",
            "give a sampling_ratio above 0",
        )
    x1, y1, x2, y2 = (boxes[:, 1:] * scale - 0.5).unbind(1)
    rows = _tents(y1, y2 - y1, places[0], sampling_ratio, input.shape[2])
    columns = _tents(x1, x2 - x1, places[1], sampling_ratio, input.shape[3])
    return _sums(input, boxes, rows, columns, True)


def _tents(start: Tensor, length: Tensor, places: int, ratio: int, size: int) -> Tensor:
    """The weight of each cell in each bin: a tent of width 1 around every sample, averaged over the samples."""
    bins, steps, cells = (torch.arange(n, device=start.device).to(start) for n in (places, ratio, size))
    each = (length / places).reshape(-1, 1, 1)
    at = start.reshape(-1, 1, 1) + (bins.reshape(1, -1, 1) + (steps + 0.5) / ratio) * each
    counted = ((at >= -1) & (at <= size)).to(start.dtype).unsqueeze(-1)
    away = (at.clamp(0, size - 1).unsqueeze(-1) - cells).abs()
    return ((1 - away).clamp_min(0) * counted).mean(-2)


def _sums(input: Tensor, boxes: Tensor, rows: Tensor, columns: Tensor, sensitive: bool) -> Tensor:
    maps = wide(input).index_select(0, boxes[:, 0].to(torch.int64))
    if not sensitive:
        return (rows.unsqueeze(1) @ maps @ columns.unsqueeze(1).transpose(-1, -2)).to(input.dtype)
    p, q = rows.shape[1], columns.shape[1]
    maps = maps.unflatten(1, (input.shape[1] // (p * q), p, q))
    products = rows[:, None, :, None, :, None] * columns[:, None, None, :, None, :]
    return (maps * products).sum((-1, -2)).to(input.dtype)


def _nms_in_order(boxes: Tensor, order: Tensor, classes: Tensor | None, threshold: float) -> Tensor:
    """ONNX's NonMaxSuppression, the places in the order as scores; classes are moved apart, as it has none of ours."""
    x = boxes.to(torch.float32)
    if classes is not None:
        span = x.flatten().amax(0) - x.flatten().amin(0) + 1
        x = x + (classes.to(x.dtype) * span).unsqueeze(-1)
    falling = -torch.arange(order.shape[0], device=order.device).to(torch.float32)
    scores = torch.zeros_like(falling).scatter(0, order, falling)
    most = torch.full((1,), torch.iinfo(torch.int32).max, dtype=torch.int64)
    limit = torch.full((1,), threshold, dtype=torch.float32)
    # How many stay is known only when the graph runs: a number that the data decide stands in the traced shape.
    kept: Any = scores.ne(scores).sum().item()
    found = node("NonMaxSuppression", (x[None], scores[None, None], most, limit), {}, torch.int64, (kept, 3))
    return found[:, 2]


LOWERED: dict[str, Callable[..., Any]] = {
    "roi_align": _roi_align,
    "roi_average": _roi_average,
    "roi_max": _roi_max,
    "nms_in_order": _nms_in_order,
}
