"""Overlaps, suppression and k-means with one thing wrong each, in NumPy; `Suppression` itself is right."""

from __future__ import annotations

from typing import Any

import numpy as np


class Suppression:
    """Non-maximum suppression, called as `nms` is, or with classes as `batched_nms` is."""

    def __call__(self, boxes: Any, scores: Any, threshold: float, classes: Any = None) -> list[int]:
        kept: list[int] = []
        for i in self.order(scores):
            if not any(
                self.same_class(classes, i, j) and self.too_much(self.overlap(boxes[i], boxes[j]), threshold)
                for j in self.removers(kept, i, scores)
            ):
                kept.append(i)
        return self.result(kept)

    def order(self, scores: Any) -> list[int]:
        return sorted(range(len(scores)), key=lambda i: (-scores[i], i))

    def removers(self, kept: list[int], i: int, scores: Any) -> list[int]:
        return kept

    def same_class(self, classes: Any, i: int, j: int) -> bool:
        return classes is None or classes[i] == classes[j]

    def too_much(self, overlap: float, threshold: float) -> bool:
        return overlap > threshold

    def overlap(self, a: Any, b: Any) -> float:
        w, h = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0.0) for i in (0, 1))
        whole = self.union((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]), w * h)
        return w * h / whole if whole else 0.0

    def union(self, a: float, b: float, inter: float) -> float:
        return a + b - inter

    def result(self, kept: list[int]) -> list[int]:
        return kept


WRONG: dict[str, Suppression] = {}


def wrong(name: str) -> Any:
    def add(variant: type[Suppression]) -> type[Suppression]:
        WRONG[name] = variant()
        return variant

    return add


@wrong("as much as the threshold is too much")
class _(Suppression):
    def too_much(self, overlap: float, threshold: float) -> bool:
        return overlap >= threshold


@wrong("of equal scores the last first")
class _(Suppression):
    def order(self, scores: Any) -> list[int]:
        return sorted(range(len(scores)), key=lambda i: (-scores[i], -i))


@wrong("the lowest score first")
class _(Suppression):
    def order(self, scores: Any) -> list[int]:
        return sorted(range(len(scores)), key=lambda i: (scores[i], i))


@wrong("boxes that are gone still remove")
class _(Suppression):
    def removers(self, kept: list[int], i: int, scores: Any) -> list[int]:
        order = self.order(scores)
        return order[: order.index(i)]


@wrong("only the last that stayed removes")
class _(Suppression):
    def removers(self, kept: list[int], i: int, scores: Any) -> list[int]:
        return kept[-1:]


@wrong("classes remove each other")
class _(Suppression):
    def same_class(self, classes: Any, i: int, j: int) -> bool:
        return True


@wrong("only other classes remove")
class _(Suppression):
    def same_class(self, classes: Any, i: int, j: int) -> bool:
        return classes is None or classes[i] != classes[j]


@wrong("the union counts the intersection twice")
class _(Suppression):
    def union(self, a: float, b: float, inter: float) -> float:
        return a + b


@wrong("over the smaller box")
class _(Suppression):
    def union(self, a: float, b: float, inter: float) -> float:
        return min(a, b)


@wrong("corners are cells, and count")
class _(Suppression):
    def overlap(self, a: Any, b: Any) -> float:
        return super().overlap((a[0], a[1], a[2] + 1, a[3] + 1), (b[0], b[1], b[2] + 1, b[3] + 1))


@wrong("boxes apart overlap")
class _(Suppression):
    def overlap(self, a: Any, b: Any) -> float:
        w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
        whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
        return w * h / whole if whole else 0.0


@wrong("by rising index, not by score")
class _(Suppression):
    def result(self, kept: list[int]) -> list[int]:
        return sorted(kept)


class Overlaps:
    """The three overlaps of two tables of boxes, done right."""

    def __call__(self, kind: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([[self.pair(kind, x, y) for y in b.tolist()] for x in a.tolist()]).reshape(len(a), len(b))

    def pair(self, kind: str, a: Any, b: Any) -> float:
        inter = self.area([max(a[i], b[i]) for i in (0, 1)] + [min(a[i], b[i]) for i in (2, 3)])
        around = [min(a[i], b[i]) for i in (0, 1)] + [max(a[i], b[i]) for i in (2, 3)]
        union = self.area(a) + self.area(b) - inter
        overlap = inter / union if union else 0.0
        if kind == "generalized":
            return overlap - self.bare(self.area(around), union)
        if kind == "distance":
            return overlap - self.apart(a, b) / (self.diagonal(around) + 1e-7)
        return overlap

    def area(self, box: Any) -> float:
        return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)

    def bare(self, around: float, union: float) -> float:
        return (around - union) / around if around else 0.0

    def apart(self, a: Any, b: Any) -> float:
        return sum(((a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2) ** 2 for i in (0, 1))

    def diagonal(self, around: Any) -> float:
        return (around[2] - around[0]) ** 2 + (around[3] - around[1]) ** 2


class _CellsCount(Overlaps):
    def area(self, box: Any) -> float:
        return max(box[2] - box[0] + 1, 0.0) * max(box[3] - box[1] + 1, 0.0)


class _NeverBelowZero(Overlaps):
    def area(self, box: Any) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])


class _OverTheUnion(Overlaps):
    def bare(self, around: float, union: float) -> float:
        return (around - union) / union if union else 0.0


class _Corners(Overlaps):
    def apart(self, a: Any, b: Any) -> float:
        return sum((a[i] - b[i]) ** 2 for i in (0, 1))


class _NotSquared(Overlaps):
    def apart(self, a: Any, b: Any) -> float:
        return super().apart(a, b) ** 0.5


class _AreaForDiagonal(Overlaps):
    def diagonal(self, around: Any) -> float:
        return self.area(around)


WRONG_OVERLAPS = {
    "cells count": ("", _CellsCount()),
    "boxes apart overlap": ("", _NeverBelowZero()),
    "over the union": ("generalized", _OverTheUnion()),
    "distance of corners": ("distance", _Corners()),
    "distance not squared": ("distance", _NotSquared()),
    "area for the diagonal": ("distance", _AreaForDiagonal()),
}
