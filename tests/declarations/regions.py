"""Pooling over boxes declares itself to the harness: maxima, averages, samples, and bins with channels of their own.

Corners and scales are sums of powers of two, so that rounding never decides which cells a bin has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conform import FLOATS, Case, Operator
from switchgrad import nn, ops

# Picture, left, top, right, bottom.
BOXES = (
    (0, 0.25, 0.75, 5.25, 6.5),
    (1, 2.0, 1.0, 7.75, 3.25),
    (1, -2.5, -1.5, 3.0, 12.0),  # sticks out on three sides
    (0, 4.5, 2.5, 4.5, 2.5),  # a point
    (0, 6.0, 5.0, 3.0, 2.0),  # inside out
    (1, 20.0, 20.0, 30.0, 25.0),  # beyond the map
    (1, 0.0, 0.0, 7.0, 6.0),
    (0, 1.25, 0.5, 3.75, 2.5),
)
Cells = list[tuple[int, int, float]]  # rows and columns of a map with their weights


def half_up(x: float) -> int:
    """Rounded, halves away from 0."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def whole_cells(box: Any, bin_: tuple[int, int], places: Any, scale: float, size: Any, inclusive: bool) -> Cells:
    """The cells of a bin in row-major order, each with its share of the mean."""
    found = []
    for axis, (p, count, cells) in enumerate(zip(bin_, places, size, strict=True)):
        low, high = half_up(float(box[2 - axis]) * scale), half_up(float(box[4 - axis]) * scale)
        each = max(high - low + inclusive, 1) / count
        if inclusive:
            first, last = math.floor(p * each) + low, math.ceil((p + 1) * each) + low
        else:
            first, last = math.floor(p * each + low), math.ceil((p + 1) * each + low)
        found.append(range(min(max(first, 0), cells), min(max(last, 0), cells)))
    share = len(found[0]) * len(found[1])
    return [(h, w, 1 / share) for h in found[0] for w in found[1]]


def _beside(at: float, size: int) -> list[tuple[int, float]]:
    """The two cells between which a place lies along an axis, and how near it is to each."""
    if at < -1 or at > size:
        return []
    at = min(max(at, 0.0), size - 1.0)
    low = int(at)
    return [(low, 1 - (at - low)), (min(low + 1, size - 1), at - low)]


def sampled_cells(
    box: Any, bin_: tuple[int, int], places: Any, scale: float, size: Any, ratio: int, aligned: bool
) -> Cells:
    """The cells that the samples of a bin are interpolated from."""
    along = []
    for axis, (p, count, cells) in enumerate(zip(bin_, places, size, strict=True)):
        offset = 0.5 if aligned else 0.0
        low, high = float(box[2 - axis]) * scale - offset, float(box[4 - axis]) * scale - offset
        length = high - low if aligned else max(high - low, 1.0)
        samples = ratio if ratio > 0 else max(math.ceil(length / count), 0)
        near = [_beside(low + (p + (i + 0.5) / samples) * length / count, cells) for i in range(samples)]
        along.append([(at, part / samples) for pair in near for at, part in pair])
    return [(h, w, down * across) for h, down in along[0] for w, across in along[1]]


def _bins(x: np.ndarray, boxes: np.ndarray, places: Any, sensitive: bool) -> Iterator[tuple[Any, Any, int, int]]:
    """For every pooled number its place, its box, its picture and its channel."""
    p, q = places
    channels = x.shape[1] // (p * q) if sensitive else x.shape[1]
    for k, c, i, j in np.ndindex(len(boxes), channels, p, q):
        yield (k, c, i, j), boxes[k], int(boxes[k, 0]), (c * p + i) * q + j if sensitive else c


def _pair(output_size: Any) -> tuple[int, int]:
    return (output_size, output_size) if isinstance(output_size, int) else output_size


def _options(sampled: bool, sensitive: bool, arguments: dict[str, Any]) -> Callable[..., Cells]:
    scale = arguments.get("spatial_scale", 1.0)
    if not sampled:
        return lambda box, at, places, size: whole_cells(box, at, places, scale, size, not sensitive)
    ratio, aligned = arguments.get("sampling_ratio", -1), arguments.get("aligned", False) or sensitive
    return lambda box, at, places, size: sampled_cells(box, at, places, scale, size, ratio, aligned)


def _sums(sampled: bool, sensitive: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Weighted sums over bins and their adjoint, as loops."""

    def value(x: np.ndarray, boxes: np.ndarray, output_size: Any, **arguments: Any) -> tuple[np.ndarray, ...]:
        places, cells_of = _pair(output_size), _options(sampled, sensitive, arguments)
        channels = x.shape[1] // math.prod(places) if sensitive else x.shape[1]
        out = np.zeros((len(boxes), channels, *places), dtype=x.dtype)
        for at, box, n, c in _bins(x, boxes, places, sensitive):
            for h, w, weight in cells_of(box, at[2:], places, x.shape[2:]):
                out[at] += x.dtype.type(weight) * x[n, c, h, w]
        return (out,)

    def gradient(
        grad: np.ndarray, x: np.ndarray, boxes: np.ndarray, output_size: Any, **arguments: Any
    ) -> tuple[np.ndarray, ...]:
        places, cells_of = _pair(output_size), _options(sampled, sensitive, arguments)
        out = np.zeros(x.shape, dtype=grad.dtype)
        for at, box, n, c in _bins(x, boxes, places, sensitive):
            for h, w, weight in cells_of(box, at[2:], places, x.shape[2:]):
                out[n, c, h, w] += grad.dtype.type(weight) * grad[at]
        return (out,)

    return value, gradient


def _winner(x: np.ndarray, n: int, c: int, cells: Cells) -> tuple[int, int, int, int] | None:
    winner = None
    for h, w, _ in cells:
        at = (n, c, h, w)
        if winner is None or x[at] > x[winner] or x[at] != x[at]:
            winner = at
    return winner


def _maxima() -> tuple[Callable[..., Any], Callable[..., Any]]:
    cells_of = _options(False, False, {})

    def value(x: np.ndarray, boxes: np.ndarray, output_size: Any) -> tuple[np.ndarray, ...]:
        places = _pair(output_size)
        out = np.zeros((len(boxes), x.shape[1], *places), dtype=x.dtype)
        for at, box, n, c in _bins(x, boxes, places, False):
            winner = _winner(x, n, c, cells_of(box, at[2:], places, x.shape[2:]))
            out[at] = 0 if winner is None else x[winner]
        return (out,)

    def gradient(grad: np.ndarray, x: np.ndarray, boxes: np.ndarray, output_size: Any) -> tuple[np.ndarray, ...]:
        places = _pair(output_size)
        out = np.zeros(x.shape, dtype=grad.dtype)
        for at, box, n, c in _bins(x, boxes, places, False):
            winner = _winner(x, n, c, cells_of(box, at[2:], places, x.shape[2:]))
            if winner is not None:
                out[winner] += grad[at]
        return (out,)

    return value, gradient


def _draw(case: Case, draw: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    x = draw(case.shapes[0])
    count = case.shapes[1][0]
    rows = [(n % x.shape[0], *corners) for n, *corners in (BOXES * (count // len(BOXES) + 1))[:count]]
    return x, torch.tensor(rows, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32).reshape(count, 5)


def _case(name: str, shape: tuple[int, ...], boxes: int = len(BOXES), **arguments: Any) -> Case:
    return Case(name, (shape, (boxes, 5)), arguments)


def _operator(name: str, cases: tuple[Case, ...], loops: tuple[Callable[..., Any], Callable[..., Any]]) -> Operator:
    channels = cases[0].shapes[0][1]
    return Operator(
        name=name,
        function=getattr(ops, name),
        cases=cases,
        reference=loops[0],
        reference_gradient=loops[1],
        draw=_draw,
        exact=False,
        cancels=True,
        dtypes=FLOATS,
        weights=(1,),
        samples=("plain", "ties", "negative"),
        unbatched=False,
        empty_batch=False,  # boxes name pictures: test_region_kernels.py has the case of neither
        large=(_case("large", (2, 20 * channels, 8, 9), 24, **cases[0].arguments),),
        layer=lambda case: {
            "roi_pool": nn.RoIPool,
            "roi_avg_pool": nn.RoIAvgPool,
            "roi_align": nn.RoIAlign,
            "ps_roi_pool": nn.PSRoIPool,
            "ps_roi_align": nn.PSRoIAlign,
        }[name](**{"spatial_scale": 1.0} | ({"sampling_ratio": -1} if "align" in name else {}) | dict(case.arguments)),
        grows=False,
    )


def roi_pool() -> Operator:
    """Maxima: exact, with ties, NaN and infinities."""
    cases = (
        _case("2x4", (2, 2, 7, 8), output_size=(2, 4)),
        _case("1x1, 17 channels", (2, 17, 7, 8), output_size=1),
        _case("no boxes", (1, 2, 4, 3), 0, output_size=2),
        _case("one cell", (2, 1, 1, 1), output_size=2),
    )
    nasty = ("plain", "ties", "nan", "extreme", "lowest", "negative")
    return replace(_operator("roi_pool", cases, _maxima()), exact=True, cancels=False, samples=nasty)


def roi_avg_pool() -> Operator:
    """Averages of whole cells."""
    cases = (
        _case("2x4", (2, 2, 7, 8), output_size=(2, 4)),
        _case("half the size, 17 channels", (2, 17, 6, 5), output_size=2, spatial_scale=0.5),
        _case("few boxes on a large map", (2, 2, 24, 25), 3, output_size=2),
        _case("no boxes", (1, 2, 4, 3), 0, output_size=2),
    )
    return _operator("roi_avg_pool", cases, _sums(False, False))


def roi_align() -> Operator:
    """Means of samples between cells."""
    cases = (
        _case("2x4", (2, 2, 7, 8), output_size=(2, 4), sampling_ratio=2, aligned=True),
        _case("a sample a cell, 17 channels", (2, 17, 7, 8), output_size=2, spatial_scale=0.5),
        _case("few boxes on a large map", (2, 2, 24, 25), 3, output_size=2, sampling_ratio=1),
        _case("one row", (2, 2, 1, 8), output_size=(1, 2), aligned=True),
    )
    return _operator("roi_align", cases, _sums(True, False))


def ps_roi_pool() -> Operator:
    """Averages of bins that have channels of their own."""
    cases = (
        _case("2x2", (2, 8, 7, 8), output_size=2),
        _case("4x1, half the size", (2, 4, 6, 5), output_size=(4, 1), spatial_scale=0.5),
    )
    return _operator("ps_roi_pool", cases, _sums(False, True))


def ps_roi_align() -> Operator:
    """Means of samples in bins that have channels of their own."""
    cases = (
        _case("2x2", (2, 8, 7, 8), output_size=2, sampling_ratio=2),
        _case("1x4, half the size", (2, 4, 6, 5), output_size=(1, 4), spatial_scale=0.5),
    )
    return _operator("ps_roi_align", cases, _sums(True, True))
