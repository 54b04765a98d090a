"""Pooling of whole maps and of sequences, as plain loops that import nothing of ours: each map is a row of cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Rule = Callable[[list[Any]], Any]  # a number of the cells that count
Slope = Callable[[list[Any], Any], list[Any]]  # its derivative by each of them, times a gradient


def steps(x: np.ndarray, lengths: Sequence[int] | None = None, mask: Any = None) -> list[list[int]]:
    """The cells that count, for each element of the batch; all of them where nothing is said."""
    cells = math.prod(x.shape[2:])
    if lengths is not None:
        return [list(range(lengths[n])) for n in range(len(x))]
    if mask is not None:
        return [[t for t in range(cells) if mask[n][t]] for n in range(len(x))]
    return [list(range(cells))] * len(x)


def row(x: np.ndarray, n: int, c: int, at: list[int]) -> list[Any]:
    wide = np.longdouble if x.dtype == np.longdouble else np.float64
    flat = x[n, c].reshape(-1)
    return [wide(flat[i]) for i in at]


def pooled(x: np.ndarray, rule: Rule, keepdim: bool = False, **padding: Any) -> np.ndarray:
    """``rule`` of each map's cells."""
    where = steps(x, **padding)
    values = [rule(row(x, n, c, where[n])) for n in range(x.shape[0]) for c in range(x.shape[1])]
    wide = np.longdouble if x.dtype == np.longdouble else np.float64
    return np.array(values, dtype=wide).reshape(*x.shape[:2], *([1] * (x.ndim - 2) if keepdim else []))


def sent_back(grad: np.ndarray, x: np.ndarray, slope: Slope, keepdim: bool = False, **padding: Any) -> np.ndarray:
    """The gradient of the cells; those that do not count get 0."""
    result = np.zeros(x.shape, dtype=np.longdouble if x.dtype == np.longdouble else np.float64)
    where, sent = steps(x, **padding), grad.reshape(x.shape[:2])
    for n, c in np.ndindex(*x.shape[:2]):
        flat = result[n, c].reshape(-1)
        for at, part in zip(where[n], slope(row(x, n, c, where[n]), result.dtype.type(sent[n, c])), strict=True):
            flat[at] = part
    return result


def total(cells: list[Any]) -> Any:
    result = cells[0] * 0 if cells and np.isfinite(cells[0]) else 0.0
    for cell in cells:
        result = result + cell
    return result


def mean(cells: list[Any]) -> Any:
    return total(cells) / len(cells) if cells else 0.0


def place(cells: list[Any]) -> int:
    """Where the largest cell stands: the first of several, NaN before all and of several NaN the last; or -1."""
    best = -1
    for i, cell in enumerate(cells):
        if best < 0 or cell > cells[best] or cell != cell:
            best = i
    return best


def largest(cells: list[Any]) -> Any:
    return cells[place(cells)] if cells else -math.inf


def places(x: np.ndarray, keepdim: bool = False) -> np.ndarray:
    """The flat index of each map's largest cell."""
    found = [place(x[n, c].reshape(-1).tolist()) for n, c in np.ndindex(*x.shape[:2])]
    return np.array(found, dtype=np.int64).reshape(*x.shape[:2], *([1] * (x.ndim - 2) if keepdim else []))


def norm(cells: list[Any], p: float) -> Any:
    if not cells:
        return 0.0
    if p == math.inf:
        return max(abs(cell) for cell in cells)
    return total([abs(cell) ** p for cell in cells]) ** (1 / p)


def norm_slope(cells: list[Any], grad: Any, p: float) -> list[Any]:
    length = norm(cells, p)
    if length == 0:
        return [0.0] * len(cells)
    if p == math.inf:
        winner = place([abs(cell) for cell in cells])
        return [grad * np.sign(cell) if i == winner else 0.0 for i, cell in enumerate(cells)]
    return [grad * np.sign(cell) * (abs(cell) / length) ** (p - 1) for cell in cells]


def generalised_mean(cells: list[Any], p: float, eps: float) -> Any:
    return mean([max(cell, type(cell)(eps)) ** p for cell in cells]) ** (1 / p)


def generalised_slope(cells: list[Any], p: float, eps: float) -> list[Any]:
    """By each cell: what is not above ``eps`` gets nothing."""
    y = generalised_mean(cells, p, eps)
    return [(cell / y) ** (p - 1) / len(cells) if cell > eps else 0.0 for cell in cells]


def generalised_slope_of_p(cells: list[Any], p: float, eps: float) -> Any:
    """By the power; in parts of the largest cell, of which the logarithms do not cancel."""
    raised = [max(cell, type(cell)(eps)) for cell in cells]
    most = max(raised)
    parts = [cell / most for cell in raised]
    powers = [part**p for part in parts]
    inside = total([power * np.log(part) for power, part in zip(powers, parts, strict=True)]) / total(powers)
    return generalised_mean(cells, p, eps) * (inside / p - np.log(mean(powers)) / p**2)
