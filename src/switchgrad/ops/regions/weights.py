"""What the bins of boxes hold along each axis: whole cells, the mean of whole cells, or samples between them."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.regions.boxes import bins, half_up

Bounds = tuple[Tensor, Tensor, Tensor, Tensor]  # first and one past the last row, then column, of each bin: (K, P), ...
MOST_SAMPLES = 2**20  # a bin
Weights = tuple[Tensor, Tensor]  # of each row and of each column in each bin: (K, P, H), (K, Q, W)


def whole_cells(
    boxes: Tensor, places: tuple[int, int], size: tuple[int, int], scale: float, *, inclusive: bool
) -> Bounds:
    """The bins of RoI pooling (the second corner belongs to the box) or of position-sensitive pooling."""
    x1, y1, x2, y2 = half_up(boxes[:, 1:] * scale).unbind(1)
    more = 1 if inclusive else 0
    height, width = (y2 - y1 + more).clamp_min(1), (x2 - x1 + more).clamp_min(1)
    rows = bins(y1, height, places[0], size[0], from_zero=inclusive)
    columns = bins(x1, width, places[1], size[1], from_zero=inclusive)
    return *rows, *columns


def means(
    boxes: Tensor, places: tuple[int, int], size: tuple[int, int], spatial_scale: float, sensitive: bool
) -> Weights:
    """Every cell of a bin counts as much."""
    top, bottom, left, right = whole_cells(boxes, places, size, spatial_scale, inclusive=not sensitive)
    return _share(top, bottom, size[0], boxes.dtype), _share(left, right, size[1], boxes.dtype)


def _share(low: Tensor, high: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    cell = torch.arange(size, device=low.device)
    inside = (cell >= low.unsqueeze(-1)) & (cell < high.unsqueeze(-1))
    return inside.to(dtype) / (high - low).clamp_min(1).to(dtype).unsqueeze(-1)


def samples(
    boxes: Tensor,
    places: tuple[int, int],
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    sensitive: bool,
) -> Weights:
    """The mean of evenly spread samples, each interpolated between two cells of either axis."""
    del sensitive  # the channels differ, the samples do not
    x1, y1, x2, y2 = (boxes[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    height, width = y2 - y1, x2 - x1
    if not aligned:
        height, width = height.clamp_min(1), width.clamp_min(1)
    return (
        _along(y1, height, places[0], sampling_ratio, size[0]),
        _along(x1, width, places[1], sampling_ratio, size[1]),
    )


def _along(start: Tensor, length: Tensor, places: int, sampling_ratio: int, size: int) -> Tensor:
    """(K, places, size): the mean of a bin's samples along one axis as weights of the cells."""
    each = length / places
    counts = each.ceil().clamp_min(0) if sampling_ratio <= 0 else torch.full_like(each, sampling_ratio)
    weights = start.new_zeros((start.shape[0], places, size))
    most = int(counts.max()) if counts.numel() else 0
    if most > MOST_SAMPLES:
        raise GeometryError(
            f"box {int(counts.argmax())} asks for more than 2^20 samples a bin; clip it to the picture, or give a "
            "smaller sampling_ratio"
        )
    place = torch.arange(places, dtype=start.dtype, device=start.device)[:, None]
    for i in range(most):
        along = counts.new_full((), i + 0.5) / counts.clamp_min(1)  # a number over a tensor would round twice
        at = (start[:, None, None] + (place + along[:, None, None]) * each[:, None, None]).flatten(1)
        counted = (i < counts)[:, None] & (at >= -1) & (at <= size)
        share = counted / counts.clamp_min(1)[:, None]
        at = at.clamp(0, size - 1)
        low = at.floor()
        upper = at - low
        for cell, part in ((low, 1 - upper), ((low + 1).clamp_max(size - 1), upper)):
            index = cell.to(torch.int64).unsqueeze(-1)
            weights.scatter_add_(2, index, (share * part).to(weights.dtype).unsqueeze(-1))
    return weights
