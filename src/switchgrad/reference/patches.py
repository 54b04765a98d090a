"""Windows over maps ``[N, C, *H]`` with any number of spatial axes: what a place sees, and what a cell meets.

Letters as in `switchgrad.geometry`: ``p`` a place of the window, ``r`` a cell of it, ``s`` stride, ``d`` dilation,
``b`` and ``e`` the padding; cell ``r`` at place ``p`` lies on cell ``p s + r d`` of the padded map.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Pair, Window

Cells = tuple[Any, ...]
"""An index into a map: everything along the batch and the channels, then a number or a slice a spatial axis."""


def padded(x: Tensor, padding: Sequence[Pair]) -> Tensor:
    """The map with ``b`` zeros before and ``e`` zeros after each spatial axis."""
    size = [b + h + e for h, (b, e) in zip(x.shape[2:], padding, strict=True)]
    y = x.new_zeros(*x.shape[:2], *size)
    cropped(y, padding)[...] = x
    return y


def cropped(x: Tensor, padding: Sequence[Pair]) -> Tensor:
    """The map (a view of it) without its padding: the backward of `padded`."""
    return x[(..., *(slice(b, h - e) for h, (b, e) in zip(x.shape[2:], padding, strict=True)))]


def places(count: Sequence[int], win: Window) -> Iterator[tuple[Cells, Cells]]:
    """Each of ``count`` places ``p``, and the cells of the padded map that it sees: ``p s + r d`` for all r."""
    for p in itertools.product(*map(range, count)):
        at = zip(p, win.stride, win.effective, win.dilation, strict=True)
        yield (..., *p), (..., *(slice(i * s, i * s + span, d) for i, s, span, d in at))


def cells(count: Sequence[int], win: Window) -> Iterator[Cells]:
    """For each cell ``r`` of the window, row-major, what it meets of the padded map: ``p s + r d`` for all p."""
    reach = [(p - 1) * s + 1 for p, s in zip(count, win.stride, strict=True)]
    for r in itertools.product(*map(range, win.kernel_size)):
        at = zip(r, win.dilation, reach, win.stride, strict=True)
        yield (..., *(slice(i * d, i * d + last, s) for i, d, last, s in at))


def columns(x: Tensor, win: Window) -> Tensor:
    """im2col: ``x [N, C, *H]`` to ``[N, C, cells, places]``, cell r of place p being ``x[p s + r d - b]``.

    Every value is copied once for each window that sees it.
    """
    wide = padded(x, win.padding)
    return torch.stack([wide[met] for met in cells(win.output_size(x.shape[2:]), win)], 2).flatten(3)


def add_columns(columns: Tensor, size: Sequence[int], win: Window) -> Tensor:
    """col2im: every copy that `columns` made, added back to the cell it came from; the backward of `columns`."""
    wide = columns.new_zeros(*columns.shape[:2], *(h + b + e for h, (b, e) in zip(size, win.padding, strict=True)))
    count = win.output_size(size)
    for r, met in enumerate(cells(count, win)):
        wide[met] += columns[:, :, r].unflatten(2, count)
    return cropped(wide, win.padding)
