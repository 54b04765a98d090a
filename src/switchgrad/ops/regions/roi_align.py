"""RoIAlign, for all channels and position-sensitive: averages of interpolated samples, nothing rounded."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.regions.boxes import Boxes, regions
from switchgrad.ops.regions.sums import region_sums


def roi_align(
    input: Tensor,
    boxes: Boxes,
    output_size: IntOrTuple,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    r"""The features of each box on a grid of fixed size, interpolated: nothing is rounded to whole cells.

    Shapes: ``input`` is (N, C, H, W); ``boxes`` (K, 5) rows of picture, x1, y1, x2, y2, or a list with (L, 4) for each
    picture; the result (K, C, P, Q) with ``output_size`` P, Q. float64, float32, float16, bfloat16 (these two summed
    in float32); coordinates in pixels of the picture, ``spatial_scale`` cells a pixel.

    A box is cut into P x Q equal bins, and each bin is the mean of g x g' bilinear samples, evenly spread:
    :math:`y_{p,i} = y_1 + (p + (i + 1/2) / g) \, h / P`, with g = ``sampling_ratio``, or
    :math:`\lceil h / P \rceil` where that is not positive. With ``aligned`` the box is moved by half a cell, so that a
    pixel's middle is where its value is; without, boxes are at least one cell wide, as in the first versions.
    A sample more than one cell outside the map counts as 0; nearer ones take the border's value.

    The semantics, names and arguments are torchvision's; sums are taken in another order. A box without a size gives
    0. NaN in a cell spreads over the box that has it in its bounds.

    Backward: each gradient goes to the cells of its samples, times their weights; to the features alone, not to the
    boxes. Deterministic; memory is K (P H + Q W) numbers beside the result. Raises `GeometryError` for shapes that do
    not fit, pictures that the batch does not have, and coordinates that are not finite.

    He, Gkioxari, Dollar, Girshick: Mask R-CNN (2017).

    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_align(x, [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2, aligned=True)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    table, places = regions("roi_align", input, boxes, output_size)
    weights = _weights(input, table, places, spatial_scale, sampling_ratio, aligned)
    return in_layout_of(input, region_sums(input, *weights, False))


def ps_roi_align(
    input: Tensor, boxes: Boxes, output_size: IntOrTuple, spatial_scale: float = 1.0, sampling_ratio: int = -1
) -> Tensor:
    r"""RoIAlign in which every bin looks at channels of its own.

    Shapes: ``input`` is (N, C P Q, H, W), the result (K, C, P, Q); channel :math:`(c P + p) Q + q` serves bin (p, q)
    of result channel c. Everything else as for `roi_align` with ``aligned``; the semantics, names and arguments are
    torchvision's. A box without a size gives 0 (there NaN).

    Raises `GeometryError` also where P Q does not divide the channels.

    Dai, Li, He, Sun: R-FCN (2016); with the sampling of He et al.: Mask R-CNN (2017).

    >>> x = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 6, 6)
    >>> ps_roi_align(x, torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]]), 2)         # each bin has a channel
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """
    table, places = regions("ps_roi_align", input, boxes, output_size)
    check_channels("ps_roi_align", input, places)
    weights = _weights(input, table, places, spatial_scale, sampling_ratio, True)
    return in_layout_of(input, region_sums(input, *weights, True))


def check_channels(name: str, input: Tensor, places: tuple[int, int]) -> None:
    """Refuse channels that cannot be dealt out to the bins."""
    if input.shape[1] % (places[0] * places[1]):
        raise GeometryError(
            f"{name} deals the {input.shape[1]} channels out to {places[0]} x {places[1]} bins; give a multiple of "
            f"{places[0] * places[1]} channels"
        )


def _weights(
    input: Tensor, table: Tensor, places: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, and the weight of each row and of each column in each bin."""
    offset = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (table[:, 1:] * scale - offset).unbind(1)
    height, width = y2 - y1, x2 - x1
    if not aligned:
        height, width = height.clamp_min(1), width.clamp_min(1)
    samples = torch.ops.switchgrad.region_samples
    rows = samples(y1, height, places[0], sampling_ratio, input.shape[2])
    columns = samples(x1, width, places[1], sampling_ratio, input.shape[3])
    return table[:, 0].to(torch.int64), rows, columns


def _region_samples(start: Tensor, length: Tensor, places: int, sampling_ratio: int, size: int) -> Tensor:
    """(K, places, size): the mean of a bin's samples along one axis as weights of the cells."""
    each = length / places
    counts = each.ceil().clamp_min(0) if sampling_ratio <= 0 else torch.full_like(each, sampling_ratio)
    weights = start.new_zeros((start.shape[0], places, size))
    most = int(counts.max()) if counts.numel() else 0
    place = torch.arange(places, dtype=start.dtype, device=start.device)[:, None]
    for i in range(most):
        at = start[:, None, None] + (place + (i + 0.5) / counts.clamp_min(1)[:, None, None]) * each[:, None, None]
        at = at.flatten(1)
        counted = (i < counts)[:, None] & (at >= -1) & (at <= size)
        share = counted / counts.clamp_min(1)[:, None]
        at = at.clamp(0, size - 1)
        low = at.floor()
        upper = at - low
        for cell, part in ((low, 1 - upper), ((low + 1).clamp_max(size - 1), upper)):
            index = cell.to(torch.int64).unsqueeze(-1)
            weights.scatter_add_(2, index, (share * part).to(weights.dtype).unsqueeze(-1))
    return weights


def _samples_shape(start: Tensor, _: Tensor, places: int, __: int, size: int) -> Tensor:
    return start.new_empty((start.shape[0], places, size))


LIBRARY.impl("region_samples", _region_samples, "CompositeExplicitAutograd")
torch.library.register_fake("switchgrad::region_samples", _samples_shape, lib=LIBRARY)
