"""How much boxes overlap: areas, IoU, and its generalised and distance forms."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor, known_number


def box_area(boxes: Tensor) -> Tensor:
    """The area of each box.

    Shapes: (N, 4) rows of x1, y1, x2, y2 to (N). Boxes with x2 < x1 have a negative area, as in torchvision.

    >>> box_area(torch.tensor([[0.0, 0.0, 2.0, 3.0]]))
    tensor([6.])
    """
    check_boxes(boxes)
    x1, y1, x2, y2 = exact(boxes).unbind(1)
    return (x2 - x1) * (y2 - y1)


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    r"""The intersection of each two boxes over their union.

    Shapes: (N, 4) and (M, 4) rows of x1, y1, x2, y2 to (N, M), from 0 to 1; integers are allowed, half precision is
    computed in float32.

    .. math:: \text{IoU} = |A \cap B| / |A \cup B|

    Two boxes without an area have IoU 0 (torchvision: NaN). Differentiable with respect to the boxes. Raises
    `GeometryError` for other shapes.

    Everingham, Van Gool, Williams, Winn, Zisserman: The Pascal visual object classes (VOC) challenge (2010).

    >>> box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]]))
    tensor([[0.3333, 0.0000]])
    """
    inter, union = _overlap(boxes1, boxes2)
    return _quotient(inter, union)


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    r"""IoU less the share of the smallest enclosing box that neither box covers: negative for boxes far apart.

    Shapes as for `box_iou`; from -1 to 1 for boxes with x1 <= x2 and y1 <= y2, without a meaning for others.

    .. math:: \text{GIoU} = \text{IoU} - |C \setminus (A \cup B)| / |C|, \; C \text{ the box around both}

    Rezatofighi, Tsoi, Gwak, Sadeghian, Reid, Savarese: Generalized intersection over union (2019).

    >>> generalized_box_iou(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[2.0, 0.0, 3.0, 1.0]]))
    tensor([[-0.3333]])
    """
    inter, union = _overlap(boxes1, boxes2)
    low, high = _enclosing(boxes1, boxes2)
    around = (high - low).clamp_min(0).prod(-1)
    return _quotient(inter, union) - _quotient(around - union, around)


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    r"""IoU less the squared distance of the centres over the squared diagonal of the enclosing box.

    Shapes as for `box_iou`; from -1 to 1. ``eps`` is added to the squared diagonal.

    .. math:: \text{DIoU} = \text{IoU} - d^2 / (c^2 + \epsilon)

    Zheng, Wang, Liu, Li, Ye, Ren: Distance-IoU loss (2020).

    >>> distance_box_iou(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[2.0, 0.0, 3.0, 1.0]]))      # 4 / 10
    tensor([[-0.4000]])
    """
    inter, union = _overlap(boxes1, boxes2)
    low, high = _enclosing(boxes1, boxes2)
    diagonal = (high - low).clamp_min(0).square().sum(-1) + known_number(eps, "eps")
    middle1, middle2 = ((b[:, :2] + b[:, 2:]) / 2 for b in map(exact, (boxes1, boxes2)))
    distance = (middle1[:, None] - middle2[None]).square().sum(-1)
    return _quotient(inter, union) - distance / diagonal


def _overlap(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of each pair."""
    areas = box_area(boxes1), box_area(boxes2)
    a, b = exact(boxes1), exact(boxes2)
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clamp_min(0).prod(-1)
    return inter, areas[0][:, None] + areas[1][None] - inter


def _enclosing(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    a, b = exact(boxes1), exact(boxes2)
    return torch.minimum(a[:, None, :2], b[None, :, :2]), torch.maximum(a[:, None, 2:], b[None, :, 2:])


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """0 where the divisor is 0, with a gradient of 0."""
    none = below == 0
    return torch.where(none, 0, above / torch.where(none, 1, below))


def exact(boxes: Tensor) -> Tensor:
    """In a precision that holds areas: half precision and integers are widened."""
    if boxes.dtype in (torch.float32, torch.float64):
        return boxes
    return boxes.float() if boxes.is_floating_point() else boxes.double()


def check_boxes(boxes: Tensor) -> None:
    """Refuse what is no table of corners."""
    check_tensor(boxes, "boxes")
    if boxes.dim() != 2 or boxes.shape[1] != 4 or boxes.dtype == torch.bool or boxes.is_complex():
        raise GeometryError(f"boxes have shape {tuple(boxes.shape)}; give (N, 4) rows of x1, y1, x2, y2")
