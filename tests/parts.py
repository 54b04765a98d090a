"""Pooling of parts of sequences and maps, as plain loops that import nothing of ours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rows import place

Cells = list[int]  # flat indices in a map


def flat(at: Sequence[int], size: Sequence[int]) -> int:
    """The row-major index of a cell."""
    return sum(c * math.prod(size[i + 1 :]) for i, c in enumerate(at))


def k_largest(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each row in the order of time, and where they stood: one after the other is taken out."""
    kept = []
    for row in x.reshape(-1, x.shape[-1]).tolist():
        left, found = list(range(len(row))), []
        for _ in range(k):
            best = left[0]
            for at in left[1:]:
                if row[best] == row[best] and (row[at] > row[best] or row[at] != row[at]):
                    best = at
            left.remove(best)
            found.append(best)
        kept.append(sorted(found))
    indices = np.array(kept, dtype=np.int64).reshape(*x.shape[:-1], k)
    return np.take_along_axis(x, indices, -1), indices


def put_at(grad: np.ndarray, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The gradients at their indices along the last axis, in order."""
    result = np.zeros(x.shape, dtype=grad.dtype)
    for at in np.ndindex(*grad.shape):
        result[(*at[:-1], indices[at])] += grad[at]
    return result


def chunks(steps: int, count: int) -> list[Cells]:
    """Part i of n of L steps: from floor(i L / n) up to ceil((i + 1) L / n)."""
    return [list(range(i * steps // count, math.ceil((i + 1) * steps / count))) for i in range(count)]


def ranges(steps: int, k: int, stride: int | None = None) -> list[Cells]:
    """Ranges of k steps until one reaches the end; none begins beyond it."""
    found, start = [], 0
    while start < steps:
        found.append(list(range(start, min(start + k, steps))))
        if start + k >= steps:
            break
        start += stride or k
    return found


def pyramid(size: Sequence[int], levels: Sequence[int]) -> list[list[Cells]]:
    """Each level's bins in row-major order."""
    found = []
    for level in levels:
        along = [chunks(cells, level) for cells in size]
        bins = itertools.product(*along)
        found.append(
            [
                [sum(c * math.prod(size[i + 1 :]) for i, c in enumerate(at)) for at in itertools.product(*b)]
                for b in bins
            ]
        )
    return found


def maxima(plane: np.ndarray, bins: list[Cells]) -> list[int]:
    """Where the largest of each bin stands."""
    numbers = plane.tolist()
    return [cells[place([numbers[at] for at in cells])] for cells in bins]


def pyramid_pool(x: np.ndarray, levels: Sequence[int], mode: str) -> np.ndarray:
    """One vector an element: level by level, channel by channel, bin by bin."""
    planes, vectors = x.reshape(*x.shape[:2], -1), []
    for element in planes:
        vector: list[Any] = []
        for bins in pyramid(x.shape[2:], levels):
            for plane in element:
                if mode == "max":
                    vector += [plane[at] for at in maxima(plane, bins)]
                else:
                    vector += [sum(plane[at].astype(wide(x)) for at in cells) / len(cells) for cells in bins]
        vectors.append(vector)
    return np.array(vectors, dtype=x.dtype if mode == "max" else wide(x)).reshape(len(x), -1)


def pyramid_gradient(grad: np.ndarray, x: np.ndarray, levels: Sequence[int], mode: str) -> np.ndarray:
    result = np.zeros((*x.shape[:2], math.prod(x.shape[2:])), dtype=wide(x))
    for n, element in enumerate(x.reshape(result.shape)):
        sent = iter(grad[n])
        for bins in pyramid(x.shape[2:], levels):
            for c, plane in enumerate(element):
                for cells, winner in zip(bins, maxima(plane, bins), strict=True):
                    part = wide(x)(next(sent))
                    for at in [winner] if mode == "max" else cells:
                        result[n, c, at] += part if mode == "max" else part / len(cells)
    return result.reshape(x.shape)


def wide(x: np.ndarray) -> Any:
    """In which precision sums are taken."""
    return np.longdouble if x.dtype == np.longdouble else np.float64


def vlad(x: np.ndarray, codebook: np.ndarray, alpha: float | None, normalise: bool) -> np.ndarray:
    """Residuals from the nearest centre, or from all by their shares, summed; norms of 1."""
    result = np.zeros((len(x), *codebook.shape), dtype=wide(x))
    for n, descriptors in enumerate(x.astype(wide(x))):
        for descriptor in descriptors:
            far = [sum((a - b) ** 2 for a, b in zip(descriptor, c, strict=True)) for c in codebook.astype(wide(x))]
            least = min(far)
            if alpha is None:
                share = [0.0] * len(far)
                share[far.index(least)] = 1.0
            else:
                powers = [np.exp(-alpha * (d - least)) for d in far]
                share = [power / sum(powers) for power in powers]
            for k, part in enumerate(share):
                result[n, k] += part * (descriptor - codebook[k])
        if normalise:
            for k in range(len(codebook)):
                result[n, k] = _unit(result[n, k])
            result[n] = _unit(result[n])
    return result.reshape(len(x), -1)


def _unit(v: np.ndarray) -> np.ndarray:
    length = np.sqrt(sum(a * a for a in v.reshape(-1)))
    return v / length if length > 0 else v


def subsample(
    x: np.ndarray, coefficient: np.ndarray, bias: np.ndarray, kernel: Sequence[int], stride: Sequence[int]
) -> np.ndarray:
    """coefficient[c] times the sum over the window plus bias[c]."""
    where, places = _windows(x, kernel, stride)
    out = np.zeros((*x.shape[:2], len(where)), dtype=wide(x))
    for n, c in np.ndindex(*x.shape[:2]):
        row = x[n, c].reshape(-1)
        for i, cells in enumerate(where):
            total = wide(x)(0)
            for at in cells:
                total += row[at]
            out[n, c, i] = coefficient[c] * total + bias[c]
    return out.reshape(*x.shape[:2], *places)


def subsample_gradient(
    grad: np.ndarray,
    x: np.ndarray,
    coefficient: np.ndarray,
    bias: np.ndarray,
    kernel: Sequence[int],
    stride: Sequence[int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    where, _ = _windows(x, kernel, stride)
    cells_of = np.zeros((*x.shape[:2], math.prod(x.shape[2:])), dtype=wide(x))
    by_coefficient, by_bias = np.zeros(len(bias), dtype=wide(x)), np.zeros(len(bias), dtype=wide(x))
    for n, c in np.ndindex(*x.shape[:2]):
        row, sent = x[n, c].reshape(-1), grad[n, c].reshape(-1)
        for part, cells in zip(sent, where, strict=True):
            by_bias[c] += part
            for at in cells:
                cells_of[n, c, at] += wide(x)(part) * coefficient[c]
                by_coefficient[c] += wide(x)(part) * row[at]
    return cells_of.reshape(x.shape), by_coefficient, by_bias


def _windows(x: np.ndarray, kernel: Sequence[int], stride: Sequence[int]) -> tuple[list[Cells], list[int]]:
    size = x.shape[2:]
    places = [(h - r) // s + 1 for h, r, s in zip(size, kernel, stride, strict=True)]
    found = []
    for p in itertools.product(*map(range, places)):
        along = [range(i * s, i * s + r) for i, s, r in zip(p, stride, kernel, strict=True)]
        found.append([flat(at, size) for at in itertools.product(*along)])
    return found, places


def loss_weights(losses: np.ndarray, ratio: float, p: float) -> np.ndarray:
    """min(tau, c loss^(q-1)), where c is the one that uses up the norm: found by halving an interval."""
    flat = np.maximum(losses.reshape(-1).astype(np.longdouble), 0)
    n = len(flat)
    if flat.max() == 0 or p == math.inf:
        weights = np.full(n, np.longdouble(1) / n)
        return (weights if flat.max() == 0 else np.where(flat > 0, weights, 0)).reshape(losses.shape)
    m = max(math.ceil(ratio * n), 1)
    if p == 1:  # the mean of the m greatest, of equal ones the first
        weights = np.zeros(n, dtype=np.longdouble)
        for i in sorted(range(n), key=lambda i: (-flat[i], i))[:m]:
            weights[i] = np.longdouble(1) / m if flat[i] > 0 else 0
        return weights.reshape(losses.shape)
    q = np.longdouble(p) / (np.longdouble(p) - 1)
    gamma = np.longdouble(n) ** (-1 / q)
    tau = gamma * np.longdouble(m) ** (-1 / np.longdouble(p))
    slopes = (flat / flat.max()) ** (q - 1)
    low, high = np.longdouble(0), tau / slopes[slopes > 0].min()
    for _ in range(200):
        c = (low + high) / 2
        low, high = (c, high) if (np.minimum(tau, c * slopes) ** p).sum() < gamma**p else (low, c)
    return np.minimum(tau, high * slopes).reshape(losses.shape)


def pseudorandom_starts(u: Any, h: int, r: int, p: int) -> list[int]:
    """floor(alpha (i + u)) - floor(alpha u), the last at the end."""
    alpha = (h - r) / (p - 1) if p > 1 else 0.0
    return [*[math.floor(alpha * (i + float(u))) - math.floor(alpha * float(u)) for i in range(p - 1)], h - r]


def random_starts(numbers: Any, h: int, r: int, p: int) -> list[int]:
    """Steps of floor(alpha) or one more, which those with the smallest numbers are, until the end is reached."""
    if p == 1:
        return [h - r]
    steps = [(h - r) // (p - 1)] * (p - 1)
    left = [float(number) for number in numbers[: p - 1]]
    while sum(steps) < h - r:
        least = left.index(min(left))
        steps[least] += 1
        left[least] = math.inf
    return [sum(steps[:i]) for i in range(p)]


def fractional(
    x: np.ndarray, samples: np.ndarray, kernel: Sequence[int], places: Sequence[int], starts_of: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Maxima of windows that start where a rule says, and their flat indices."""
    size, dims = x.shape[2:], x.ndim - 2
    indices = np.zeros((*x.shape[:2], *places), dtype=np.int64)
    values = np.zeros(indices.shape, dtype=x.dtype)
    for n, c in np.ndindex(*x.shape[:2]):
        numbers, starts = x[n, c].reshape(-1).tolist(), []
        for axis in range(dims):
            numbers_of = samples[n, c, axis if dims == 3 else dims - 1 - axis]
            starts.append((starts_of or pseudorandom_starts)(numbers_of, size[axis], kernel[axis], places[axis]))
        for at in np.ndindex(*places):
            along = [range(s[i], s[i] + r) for s, i, r in zip(starts, at, kernel, strict=True)]
            cells = [flat(one, size) for one in itertools.product(*along)]
            indices[(n, c, *at)] = winner = cells[place([numbers[cell] for cell in cells])]
            values[(n, c, *at)] = x[n, c].reshape(-1)[winner]
    return values, indices
