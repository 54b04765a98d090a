"""Boxes as they are given: a list of corners for each picture, or one table with the picture's number in front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.checks import check_tensor, number
from switchgrad.ops.routing import is_mapped
from switchgrad.ops.windows import FLOATS, per_axis, wide

Boxes: TypeAlias = "Tensor | Sequence[Tensor]"


def regions(name: str, input: Tensor, boxes: Boxes, output_size: IntOrTuple) -> tuple[Tensor, tuple[int, int]]:
    """Rows of (picture, x1, y1, x2, y2) in the precision to compute in, and the pooled size.

    Raises `GeometryError` for features that are not (N, C, H, W), boxes of another form, and numbers of pictures that
    the features do not have.
    """
    check_tensor(input, f"the features of {name}")
    if input.dim() != 4 or 0 in input.shape[1:] or input.dtype not in FLOATS:
        raise GeometryError(
            f"{name} takes features of shape (N, C, H, W) in floating point, without an empty axis but the batch, not "
            f"{tuple(input.shape)} of {input.dtype}"
        )
    rows, columns = per_axis("output_size", output_size, 2)
    if not isinstance(boxes, (Tensor, list, tuple)):
        check_tensor(boxes, f"boxes of {name}")
    table = boxes if isinstance(boxes, Tensor) else _table(name, boxes, input)
    if table.dim() != 2 or table.shape[1] != 5:
        raise GeometryError(
            f"the boxes have shape {tuple(table.shape)}; give (K, 5) rows of picture and corners, or a list of (L, 4)"
        )
    table = table.detach().to(wide(input))  # boxes get no gradient
    if is_mapped(table):
        raise GeometryError(
            f"{name} was given boxes that vmap maps; map the features alone, or give the boxes of all in one table"
        )
    if not torch.compiler.is_compiling() and not table.is_meta and table.shape[0]:
        _check_numbers(table, input.shape[0])
    return table, (rows, columns)


def _check_numbers(table: Tensor, pictures: int) -> None:
    if not bool(table.isfinite().all()):
        raise GeometryError("the boxes hold NaN or infinity; every coordinate must be finite")
    first, last = (int(n) for n in table[:, 0].aminmax())
    if first < 0 or last >= pictures:
        raise GeometryError(
            f"the boxes name pictures {first} to {last}, and the batch has {pictures}; pictures count from 0"
        )


def _table(name: str, boxes: Sequence[Tensor], input: Tensor) -> Tensor:
    for each in boxes:
        check_tensor(each, f"an entry in the list of boxes of {name}")
    if len(boxes) != input.shape[0] or any(b.dim() != 2 or b.shape[1] != 4 for b in boxes):
        raise GeometryError(
            f"{name} was given {len(boxes)} lists of boxes of shapes {[tuple(b.shape) for b in boxes]} for "
            f"{input.shape[0]} pictures; give one (L, 4) a picture, rows of x1, y1, x2, y2"
        )
    numbered = [torch.cat([b.new_full((b.shape[0], 1), i), b], 1).to(wide(input)) for i, b in enumerate(boxes)]
    return torch.cat(numbered) if numbered else input.new_zeros((0, 5))


def scale(spatial_scale: float) -> float:
    """What the boxes' coordinates are multiplied by, checked."""
    factor = float(number(spatial_scale, "spatial_scale"))
    if not 0 < factor < math.inf:
        raise GeometryError(f"spatial_scale is {factor}; give a number above 0, cells of the map for one of the boxes")
    return factor


def half_up(x: Tensor) -> Tensor:
    """The nearest whole number, halves away from 0: C's ``round``, not PyTorch's."""
    whole = x.trunc()
    return whole + x.sign() * ((x - whole).abs() >= 0.5)


def bins(start: Tensor, length: Tensor, places: int, size: int, *, from_zero: bool) -> tuple[Tensor, Tensor]:
    """First cell and one past the last of each bin, (K, places), cut to an axis of ``size`` cells.

    The bounds are rounded outwards, so neighbouring bins may share a cell; ``from_zero`` rounds before the start is
    added (RoI pooling), else after (position-sensitive pooling).
    """
    each = (length / places).unsqueeze(-1)
    start = start.unsqueeze(-1)
    place = torch.arange(places, dtype=length.dtype, device=length.device)
    if from_zero:
        low, high = (place * each).floor() + start, ((place + 1) * each).ceil() + start
    else:
        low, high = (place * each + start).floor(), ((place + 1) * each + start).ceil()
    return low.clamp(0, size).to(torch.int64), high.clamp(0, size).to(torch.int64)
