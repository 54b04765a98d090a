"""Pooling with drawn winners, as plain Python loops that import nothing of ours: words, draws, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

import loops

MASK = 2**32 - 1


def word(seed: int, place: int) -> int:
    """The 32-bit word of a place: Threefry-2x32-20, two places a counter."""
    block, within = divmod(place, 32)
    counter = 16 * block + within % 16
    keys = [seed & MASK, seed >> 32 & MASK]
    keys.append(0x1BD11BDA ^ keys[0] ^ keys[1])
    x, y = (counter + keys[0]) & MASK, ((counter >> 32) + keys[1]) & MASK
    turns = (13, 15, 26, 6, 17, 29, 16, 24)
    for turn in range(20):
        x = (x + y) & MASK
        y = ((y << turns[turn % 8]) | (y >> (32 - turns[turn % 8]))) & MASK ^ x
        if turn % 4 == 3:
            step = turn // 4 + 1
            x, y = (x + keys[step % 3]) & MASK, (y + keys[(step + 1) % 3] + step) & MASK
    return y if within >= 16 else x


def _planes(x: np.ndarray, dims: int) -> np.ndarray:
    return x.reshape(-1, int(np.prod(x.shape[-dims:])))


def _results(x: np.ndarray, dims: int, winners: list[Any], along: list[loops.Axis]) -> tuple[np.ndarray, ...]:
    """Values, flat indices and offsets; a window without a winner gives 0, -1, -1."""
    shape = (*x.shape[:-dims], *loops.pooled_shape(along))
    offsets = np.array([-1 if w is None else w[0] for w in winners], dtype=np.int64).reshape(shape)
    indices = np.array([-1 if w is None else w[1] for w in winners], dtype=np.int64).reshape(shape)
    return loops.take(x, indices, dims), indices, offsets


def stochastic_pool(x: np.ndarray, dims: int, seed: int, **arguments: Any) -> tuple[np.ndarray, ...]:
    """One cell of each window, in proportion to the positive ones; sums are rounded as the operator says."""
    along = loops.axes(x.shape[-dims:], **arguments)
    where = list(loops.windows(along))
    real = np.float64 if x.dtype == np.float64 else np.float32
    winners: list[Any] = []
    for number, plane in enumerate(_planes(x, dims)):
        numbers = plane.astype(real)
        for place, cells in enumerate(where):
            drawn = word(seed, number * len(where) + place)
            winners.append(_drawn(numbers, cells, drawn, real))
    return _results(x, dims, winners, along)


def _drawn(plane: np.ndarray, cells: list[tuple[int, int]], drawn: int, real: Any) -> tuple[int, int] | None:
    largest = None
    for cell in cells:
        if largest is None or plane[cell[1]] > plane[largest[1]] or np.isnan(plane[cell[1]]):
            largest = cell
    if largest is None or not np.isfinite(best := plane[largest[1]]):
        return largest
    u = real(drawn * 2.0**-32) if real is np.float64 else real((drawn >> 8) * 2.0**-24)
    # By a power of two near the largest: frexp gives the exponent, at the ends as far as the type goes.
    least, most = (-1022, 1023) if real is np.float64 else (-126, 127)
    power = real(2.0 ** min(max(1 - int(np.frexp(best)[1]), least), most)) if best > 0 else real(0)
    weights = [real(max(plane[at], real(0)) * power) if best > 0 else real(plane[at] > -np.inf) for _, at in cells]
    total = running = real(0)
    for weight in weights:
        total = real(total + weight)
    for cell, weight in zip(cells, weights, strict=True):
        running = real(running + weight)
        if running > real(u * total):
            return cell
    return largest


def max_pool_dropout(x: np.ndarray, dims: int, seed: int, p: float, **arguments: Any) -> tuple[np.ndarray, ...]:
    """The largest cell of each window after some became 0; nobody, where one of these is the largest."""
    along = loops.axes(x.shape[-dims:], **arguments)
    where = list(loops.windows(along))
    limit = min(round(p * 2**32), MASK)
    winners: list[Any] = []
    for number, plane in enumerate(_planes(x, dims)):
        dropped = [word(seed, number * len(plane) + at) < limit for at in range(len(plane))]
        left = [0.0 if gone else value for gone, value in zip(dropped, plane.tolist(), strict=True)]
        for cells in where:
            winner = None
            for cell in cells:
                if winner is None or left[cell[1]] > left[winner[1]] or left[cell[1]] != left[cell[1]]:
                    winner = cell
            winners.append(None if winner is None or dropped[winner[1]] else winner)
    return _results(x, dims, winners, along)
