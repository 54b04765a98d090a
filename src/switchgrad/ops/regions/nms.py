"""Non-maximum suppression: of boxes that overlap, the one with the highest score stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.checks import check_tensor, number
from switchgrad.ops.exporting import stable_sort
from switchgrad.ops.regions.overlap import box_iou, check_boxes, exact
from switchgrad.ops.routing import is_mapped

_BLOCK = 256


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The boxes that stay when each box, from the highest score down, removes those that overlap it more.

    Shapes: ``boxes`` (K, 4) rows of x1, y1, x2, y2, ``scores`` (K); the result int64 indices of the boxes that stay,
    by falling score. A box is removed where its `box_iou` with a box that stays is greater than ``iou_threshold``.

    Of equal scores the first box comes first (torchvision leaves it open on CUDA). Exact, deterministic; memory grows
    with the boxes, not with their square. Not differentiable. Raises `GeometryError` for shapes that do not match and
    for a threshold that is not from 0 to 1.

    Felzenszwalb, Girshick, McAllester, Ramanan: Object detection with discriminatively trained part-based models
    (2010).

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 6.0, 6.0]])
    >>> nms(boxes, torch.tensor([0.8, 0.9, 0.1]), 0.5)
    tensor([1, 2])
    """
    _check(boxes, scores, iou_threshold)
    return _stay(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each class: boxes of different ``idxs`` (K) never remove each other.

    The result holds all classes, by falling score. Classes are compared, not moved apart, so large coordinates cost no
    precision.

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(3, 1)
    >>> batched_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 0, 1]), 0.5)
    tensor([1, 2])
    """
    _check(boxes, scores, iou_threshold)
    check_tensor(idxs, "idxs")
    if idxs.shape != scores.shape:
        raise GeometryError(f"idxs have shape {tuple(idxs.shape)} and scores {tuple(scores.shape)}; give as many")
    return _stay(boxes, scores, _numbered(idxs), iou_threshold)


def _check(boxes: Tensor, scores: Tensor, threshold: float) -> None:
    if not 0 <= number(threshold, "iou_threshold") <= 1:
        raise GeometryError(f"iou_threshold is {threshold}; overlaps go from 0 to 1, so give a number of these")
    check_boxes(boxes)
    check_tensor(scores, "scores")
    if boxes.is_meta or is_mapped(boxes) or is_mapped(scores):
        raise GeometryError(
            "nms was given tensors on meta or mapped by vmap; how many boxes stay depends on their numbers, so call it "
            "on tensors with data, one set of boxes after the other"
        )
    if boxes.dim() != 2 or boxes.shape[1] != 4 or scores.dim() != 1 or scores.shape[0] != boxes.shape[0]:
        raise GeometryError(
            f"boxes have shape {tuple(boxes.shape)} and scores {tuple(scores.shape)}; give (K, 4) and (K,)"
        )


def _stay(boxes: Tensor, scores: Tensor, classes: Tensor | None, threshold: float) -> Tensor:
    order = stable_sort(scores.detach(), descending=True).indices
    return torch.ops.switchgrad.nms_in_order(exact(boxes.detach()), order, classes, float(threshold))


def _numbered(idxs: Tensor) -> Tensor:
    """Classes as int64; of numbers with fractions, their ranks."""
    return idxs.detach().unique(return_inverse=True)[1] if idxs.is_floating_point() else idxs.to(torch.int64)


def _nms_in_order(boxes: Tensor, order: Tensor, classes: Tensor | None, threshold: float) -> Tensor:
    """Block by block of falling score: first what stays already removes, then the block among itself."""
    boxes, kinds = boxes[order], None if classes is None else classes[order]
    kept: list[int] = []
    for first in range(0, len(order), _BLOCK):
        block = slice(first, first + _BLOCK)
        alive = torch.ones(len(boxes[block]), dtype=torch.bool, device=boxes.device)
        for part in range(0, len(kept), 16 * _BLOCK):
            stay = torch.tensor(kept[part : part + 16 * _BLOCK], device=boxes.device)
            alive &= ~_removes(boxes, kinds, stay, block, threshold).any(0)
        inside = torch.arange(first, first + len(alive), device=boxes.device)
        kept += [first + i for i in _greedy(alive, _removes(boxes, kinds, inside, block, threshold))]
    return order[torch.tensor(kept, dtype=torch.int64, device=boxes.device)]


def _removes(boxes: Tensor, kinds: Tensor | None, rows: Tensor, block: slice, threshold: float) -> Tensor:
    """Which of the ``rows`` overlap which boxes of the block by more than the threshold."""
    over = box_iou(boxes[rows], boxes[block]) > threshold
    return over if kinds is None else over & (kinds[rows][:, None] == kinds[block][None])


def _greedy(alive: Tensor, removes: Tensor) -> list[int]:
    """Who stays within a block; a row of bits is one number, so that a removal is one operation."""
    rows = [int.from_bytes(row.tobytes(), "little") for row in _packed(removes)]
    left = int.from_bytes(_packed(alive[None])[0].tobytes(), "little")
    kept: list[int] = []
    for i, row in enumerate(rows):
        if left >> i & 1:
            kept.append(i)
            left &= ~row
    return kept


def _packed(bits: Tensor) -> np.ndarray:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    return np.packbits(bits.cpu().numpy(), axis=1, bitorder="little")


def _nms_shape(boxes: Tensor, *_: Any) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


LIBRARY.impl("nms_in_order", _nms_in_order, "CompositeExplicitAutograd")
torch.library.register_fake("switchgrad::nms_in_order", _nms_shape, lib=LIBRARY)
