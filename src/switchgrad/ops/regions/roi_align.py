"""RoIAlign, for all channels and position-sensitive: averages of interpolated samples, nothing rounded."""

from __future__ import annotations

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import MOST, IntOrTuple
from switchgrad.ops.checks import count
from switchgrad.ops.regions.boxes import Boxes, regions, scale
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
    0. NaN in a cell makes the bins NaN that give it a weight.

    Backward: each gradient goes to the cells of its samples, times their weights; to the features alone, not to the
    boxes. Deterministic, the same bits with any number of threads. The boxes are kept, nothing else; the work needs
    memory for the weights of each box's rows and columns, and for sixteen channels of a picture on each thread. Raises
    `GeometryError` for shapes that do not fit, pictures that the batch does not have, coordinates that are not
    finite, and boxes so large that a bin of theirs would have more than 2^20 samples a side.

    He, Gkioxari, Dollar, Girshick: Mask R-CNN (2017).

    >>> import torch
    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_align(x, [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2, aligned=True)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    table, places = regions("roi_align", input, boxes, output_size)
    options = (scale(spatial_scale), _ratio(sampling_ratio), aligned, False)
    return region_sums("roi_align", input, table, places, options)


def ps_roi_align(
    input: Tensor, boxes: Boxes, output_size: IntOrTuple, spatial_scale: float = 1.0, sampling_ratio: int = -1
) -> Tensor:
    r"""RoIAlign in which every bin looks at channels of its own.

    Shapes: ``input`` is (N, C P Q, H, W), the result (K, C, P, Q); channel :math:`(c P + p) Q + q` serves bin (p, q)
    of result channel c. Everything else as for `roi_align` with ``aligned``; the semantics, names and arguments are
    torchvision's. A box without a size gives 0 (there NaN).

    Raises `GeometryError` also where P Q does not divide the channels.

    Dai, Li, He, Sun: R-FCN (2016); with the sampling of He et al.: Mask R-CNN (2017).

    >>> import torch
    >>> x = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 6, 6)
    >>> ps_roi_align(x, torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]]), 2)         # each bin has a channel
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """
    table, places = regions("ps_roi_align", input, boxes, output_size)
    check_channels("ps_roi_align", input, places)
    return region_sums("roi_align", input, table, places, (scale(spatial_scale), _ratio(sampling_ratio), True, True))


def check_channels(name: str, input: Tensor, places: tuple[int, int]) -> None:
    """Refuse channels that cannot be dealt out to the bins."""
    if input.shape[1] % (places[0] * places[1]):
        raise GeometryError(
            f"{name} deals the {input.shape[1]} channels out to {places[0]} x {places[1]} bins; give a multiple of "
            f"{places[0] * places[1]} channels"
        )


def _ratio(sampling_ratio: int) -> int:
    return count(sampling_ratio, "sampling_ratio", least=-MOST)
