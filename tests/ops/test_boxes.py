"""How boxes overlap, and which of them stay: held to loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from switchgrad import ops
from switchgrad.errors import GeometryError


def some_boxes(count: int, seed: int, size: float = 20.0) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * size
    extent = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * 8 + 0.1
    return torch.cat([corner, corner + extent], 1)


def area(b: Any) -> float:
    return max(b[2] - b[0], 0) * max(b[3] - b[1], 0)


def iou(a: Any, b: Any) -> float:
    inter = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - inter
    return inter / union if union else 0.0


def giou(a: Any, b: Any) -> float:
    inter = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    around = area((min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])))
    return iou(a, b) - (around - (area(a) + area(b) - inter)) / around


def diou(a: Any, b: Any) -> float:
    w, h = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    return iou(a, b) - apart / (w * w + h * h + 1e-7)


def greedy(boxes: Any, scores: Any, threshold: float, classes: Any = None) -> list[int]:
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept: list[int] = []
    for i in order:
        if all(
            iou(boxes[i], boxes[j]) <= threshold or (classes is not None and classes[i] != classes[j]) for j in kept
        ):
            kept.append(i)
    return kept


@pytest.mark.parametrize(
    ("ours", "loop"), [(ops.box_iou, iou), (ops.generalized_box_iou, giou), (ops.distance_box_iou, diou)]
)
def test_overlaps(ours: Any, loop: Any) -> None:
    a, b = some_boxes(9, 1), some_boxes(7, 3)
    wanted = np.array([[loop(x, y) for y in b.tolist()] for x in a.tolist()])
    torch.testing.assert_close(ours(a, b), torch.from_numpy(wanted))
    torch.testing.assert_close(ours(a.float(), b.float()), torch.from_numpy(wanted).float())
    assert gradcheck(ours, (a.requires_grad_(), b.requires_grad_()))
    whole = torch.tensor([[0, 0, 4, 4], [2, 2, 6, 6]])
    torch.testing.assert_close(ours(whole, whole), ours(whole.double(), whole.double()))
    halves = whole.half() * 60
    assert ours(halves, halves).isfinite().all()
    assert not ours(torch.zeros(1, 4), torch.zeros(1, 4)).isnan().any()
    assert ours(a[:0], b).shape == (0, 7)


def test_wrong_overlaps_are_seen() -> None:
    """The three differ from each other, and a union that forgets the intersection from the right one."""
    a, b = some_boxes(9, 1), some_boxes(7, 3)
    values = [f(a, b) for f in (ops.box_iou, ops.generalized_box_iou, ops.distance_box_iou)]
    inter = (torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])).clamp_min(0)
    doubled = inter.prod(-1) / (ops.box_area(a)[:, None] + ops.box_area(b)[None])
    for i, x in enumerate([*values, doubled]):
        for y in [*values, doubled][:i]:
            assert (x - y).abs().max() > 0.01


@pytest.mark.parametrize("count", [0, 1, 40, 300])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_nms_is_greedy(count: int, threshold: float) -> None:
    boxes = some_boxes(count, 5)
    scores = (torch.rand(count, generator=torch.Generator().manual_seed(6)) * 50).round()  # with ties
    assert ops.nms(boxes, scores, threshold).tolist() == greedy(boxes.tolist(), scores.tolist(), threshold)
    classes = torch.randint(3, (count,), generator=torch.Generator().manual_seed(7))
    wanted = greedy(boxes.tolist(), scores.tolist(), threshold, classes.tolist())
    assert ops.batched_nms(boxes, scores, classes, threshold).tolist() == wanted


def test_nms_of_classes_far_apart() -> None:
    """Moving classes apart by coordinates, as others do, loses float32's last digits; comparing classes does not."""
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.4999]]).repeat(2, 1)
    boxes[2:] += 1e6
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    kept = ops.batched_nms(boxes, scores, torch.tensor([0, 0, 1, 1]), 0.5)
    assert kept.tolist() == greedy(boxes.tolist(), scores.tolist(), 0.5, [0, 0, 1, 1])


def test_nms_compiles() -> None:
    boxes, scores = some_boxes(30, 1), torch.rand(30)
    torch.compiler.reset()
    compiled = torch.compile(lambda b, s: ops.nms(b, s, 0.4) + 1, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(boxes, scores), ops.nms(boxes, scores, 0.4) + 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ops.box_iou(torch.rand(3, 5), torch.rand(3, 4)),
        lambda: ops.box_area(torch.rand(4)),
        lambda: ops.nms(torch.rand(3, 4), torch.rand(2), 0.5),
        lambda: ops.batched_nms(torch.rand(3, 4), torch.rand(3), torch.zeros(2), 0.5),
    ],
)
def test_refusals(call: Any) -> None:
    with pytest.raises(GeometryError, match="give"):
        call()


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan])
def test_thresholds_are_overlaps(threshold: float) -> None:
    with pytest.raises(GeometryError, match="overlaps go from 0 to 1"):
        ops.nms(torch.zeros(1, 4), torch.ones(1), threshold)


@pytest.mark.parametrize("pool", [ops.roi_align, ops.roi_pool, ops.roi_avg_pool])
def test_boxes_get_no_gradient(pool: Any) -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0]], requires_grad=True)
    assert not pool(torch.ones(1, 2, 5, 5), boxes, 2).requires_grad
