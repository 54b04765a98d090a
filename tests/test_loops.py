"""The loops themselves, against examples worked out by hand: the largest number and its place."""

from __future__ import annotations

import math

import numpy as np
import pytest

import loops

NAN, INF = math.nan, math.inf
# Arguments, input, maxima, their places.
SIGNALS = {
    "the rule": ({"kernel_size": 2}, [3, 9, 1, 2], [9, 2], [1, 3]),
    "a tie keeps the first": ({"kernel_size": 3}, [5, 7, 7], [7], [1]),
    "the last of several NaN": ({"kernel_size": 4}, [NAN, 1, NAN, 2], [NAN], [2]),
    "NaN beats infinity": ({"kernel_size": 3}, [INF, NAN, 1], [NAN], [1]),
    "all -inf: the first cell": ({"kernel_size": 2}, [-INF, -INF], [-INF], [0]),
    "all -inf, padded: the first cell inside": ({"kernel_size": 2, "padding": 1}, [-INF, -INF], [-INF, -INF], [0, 1]),
    "padding never wins": ({"kernel_size": 2, "padding": 1}, [-3, -5, -4], [-3, -4], [0, 2]),
    "the floor drops the rest": ({"kernel_size": 2}, [1, 2, 9], [2], [1]),
    "ceil_mode keeps it": ({"kernel_size": 2, "ceil_mode": True}, [1, 2, 9], [2, 9], [1, 2]),
    "ceil_mode: none starts in the end padding": (
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
        [4, 1, 2],
        [4, 2],
        [0, 2],
    ),
    "dilation skips": ({"kernel_size": 2, "stride": 1, "dilation": 2}, [1, 9, 2, 3], [2, 9], [2, 1]),
    "a window without a cell": (
        {"kernel_size": 2, "stride": 1, "dilation": 5, "padding": ((4, 1),)},
        [7, 8],
        [8, -INF],
        [1, -1],
    ),
    "one side padded": ({"kernel_size": 2, "padding": ((0, 1),)}, [1, 3, 2], [3, 2], [1, 2]),
    "same, the odd cell at the end": (
        {"kernel_size": 2, "stride": 1, "padding": "same"},
        [1, 3, 2],
        [3, 3, 2],
        [1, 1, 2],
    ),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_maxima_of_a_signal(name: str) -> None:
    arguments, signal, maxima, places = SIGNALS[name]
    values, indices, offsets = loops.max_pool(np.array([signal], dtype=np.float64), 1, **arguments)
    np.testing.assert_array_equal(values, [maxima])
    np.testing.assert_array_equal(indices, [places])
    assert ((offsets == -1) == (indices == -1)).all()


def test_maxima_of_a_map() -> None:
    x = np.array([[[3.0, 1.0, 4.0], [1.0, 5.0, 9.0], [2.0, 6.0, 5.0]]])
    values, indices, offsets = loops.max_pool(x, 2, kernel_size=(2, 3), stride=1)
    assert values.tolist() == [[[9.0], [9.0]]]
    assert indices.tolist() == [[[5], [5]]]
    assert offsets.tolist() == [[[5], [2]]]


def test_numbers_that_meet_are_added_or_the_last_stays() -> None:
    pooled, indices = np.array([[1.0, 2.0, 4.0]]), np.array([[2, -1, 2]])
    assert loops.put_back(pooled, indices, (4,), add=True).tolist() == [[0, 0, 5, 0]]
    assert loops.put_back(pooled, indices, (4,), add=False).tolist() == [[0, 0, 4, 0]]
    assert loops.take(np.array([[10.0, 20.0, 30.0]]), indices, 1).tolist() == [[30, 0, 30]]


def test_integers_start_at_their_smallest() -> None:
    values, indices, _ = loops.max_pool(np.array([[-128, -128]], dtype=np.int8), 1, kernel_size=2)
    assert (values.tolist(), indices.tolist(), values.dtype) == ([[-128]], [[0]], np.int8)
