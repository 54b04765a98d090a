"""RoI pooling with whole cells: the largest of each bin, its average, and its average in channels of its own."""

from __future__ import annotations

from torch import Tensor

from switchgrad.geometry import IntOrTuple
from switchgrad.ops.regions.boxes import Boxes, regions, scale
from switchgrad.ops.regions.maxima import region_maxima
from switchgrad.ops.regions.roi_align import check_channels
from switchgrad.ops.regions.sums import region_sums


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

    >>> import torch
    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_pool(x, torch.tensor([[0.0, 0.0, 0.0, 2.0, 3.0]]), 2)               # 4 rows, 3 columns
    tensor([[[[ 5.,  6.],
              [13., 14.]]]])
    """
    table, places = regions("roi_pool", input, boxes, output_size)
    return region_maxima(input, table, places, scale(spatial_scale))[0]


def roi_avg_pool(input: Tensor, boxes: Boxes, output_size: IntOrTuple, spatial_scale: float = 1.0) -> Tensor:
    """The mean of each bin of each box: the bins of `roi_pool`, averaged.

    Shapes, boxes and quantisation as for `roi_pool`; a bin without a cell gives 0; half precision is summed in
    float32. NaN in a cell makes the bins NaN that hold it.

    Backward: each gradient is shared evenly by the cells of its bin; deterministic, memory as for `roi_align`.

    Girshick: Fast R-CNN (2015), with the mean in place of the maximum.

    >>> import torch
    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_avg_pool(x, torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0]]), 2)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    table, places = regions("roi_avg_pool", input, boxes, output_size)
    return region_sums("roi_average", input, table, places, (scale(spatial_scale), False))


def ps_roi_pool(input: Tensor, boxes: Boxes, output_size: IntOrTuple, spatial_scale: float = 1.0) -> Tensor:
    r"""The mean of each bin of each box, every bin in channels of its own: position-sensitive RoI pooling.

    Shapes: ``input`` is (N, C P Q, H, W), the result (K, C, P, Q); channel :math:`(c P + p) Q + q` serves bin (p, q)
    of result channel c. Boxes as for `roi_pool`.

    Corners are rounded to whole cells (halves away from 0), the second one is not part of the box:
    :math:`h = \max(\text{round}(s y_2) - \text{round}(s y_1), 1)`, and bin p holds the rows
    :math:`\lfloor p h / P + y_1 \rfloor` to :math:`\lceil (p + 1) h / P + y_1 \rceil - 1`, cut to the map. A bin
    without a cell gives 0; NaN in a cell makes the bins NaN that hold it. The semantics, names and arguments are
    torchvision's; sums are taken in another order.

    Backward: each gradient is shared evenly by the cells of its bin; deterministic. Raises `GeometryError` as
    `roi_pool`, and where P Q does not divide the channels.

    Dai, Li, He, Sun: R-FCN: object detection via region-based fully convolutional networks (2016).

    >>> import torch
    >>> x = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 6, 6)
    >>> ps_roi_pool(x, torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]]), 2)
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """
    table, places = regions("ps_roi_pool", input, boxes, output_size)
    check_channels("ps_roi_pool", input, places)
    return region_sums("roi_average", input, table, places, (scale(spatial_scale), True))
