"""Suppression and overlaps on whole corners, where overlaps equal thresholds; wrong ones are told from the right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from switchgrad import ops
from wrong_boxes import WRONG, WRONG_OVERLAPS, Overlaps, Suppression

OURS = {"": ops.box_iou, "generalized": ops.generalized_box_iou, "distance": ops.distance_box_iou}


def boxes(seed: int, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Corners are whole, sides 1, 2 or 4: many overlap by exactly a quarter, a third or a half; some are points."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 7, (count, 2), generator=generator)
    sides = torch.tensor([0, 1, 2, 2, 4])[torch.randint(5, (count, 2), generator=generator)]
    return torch.cat([corner, corner + sides], 1).to(dtype)


def same_boxes_stay(function: Callable[..., Any]) -> None:
    """``function(boxes, scores, threshold, classes)`` keeps what the loops keep, in their order."""
    right = Suppression()
    for seed, count in enumerate((0, 1, 30, 60)):
        table = boxes(seed, count)
        generator = torch.Generator().manual_seed(seed + 10)
        scores, classes = (torch.randint(limit, (count,), generator=generator) for limit in (12, 3))
        for threshold in (0.0, 0.25, 0.5):
            for kinds in (None, classes):
                given = [table.tolist(), scores.tolist(), threshold, None if kinds is None else kinds.tolist()]
                assert list(function(*given)) == right(*given), f"{count} boxes, more than {threshold}"


def ours(table: Any, scores: Any, threshold: float, classes: Any) -> list[int]:
    given = torch.tensor(table).reshape(-1, 4), torch.tensor(scores, dtype=torch.float32)
    if classes is None:
        return ops.nms(*given, threshold).tolist()
    return ops.batched_nms(*given, torch.tensor(classes, dtype=torch.int64), threshold).tolist()


def test_suppression() -> None:
    same_boxes_stay(ours)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_suppression_is_seen(name: str) -> None:
    with pytest.raises(AssertionError, match="boxes, more than"):
        same_boxes_stay(WRONG[name])


def overlaps_agree(kind: str, function: Callable[..., Any]) -> None:
    for seed in (1, 2):
        a, b = boxes(seed, 20, torch.float64), boxes(seed + 2, 15, torch.float64)
        wanted = Overlaps()(kind, a.numpy(), b.numpy())
        got = np.asarray(function(a, b))
        assert got.shape == wanted.shape, "wrong overlaps"
        assert np.abs(got - wanted).max() < 1e-14, "wrong overlaps"


@pytest.mark.parametrize("kind", OURS)
def test_overlaps(kind: str) -> None:
    overlaps_agree(kind, OURS[kind])


@pytest.mark.parametrize("name", WRONG_OVERLAPS)
def test_wrong_overlaps_are_seen(name: str) -> None:
    kind, wrong = WRONG_OVERLAPS[name]
    with pytest.raises(AssertionError, match="wrong overlaps"):
        overlaps_agree(kind, lambda a, b: wrong(kind, a.numpy(), b.numpy()))
