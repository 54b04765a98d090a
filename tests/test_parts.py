"""The loops of `rows` and `parts` against examples worked out by hand."""

from __future__ import annotations

import math

import numpy as np

import parts
import rows
from wrong_boxes import Overlaps, Suppression


def test_rows() -> None:
    assert rows.place([1.0, 5.0, 5.0]) == 1
    assert rows.place([math.nan, 5.0, math.nan, 7.0]) == 2
    assert rows.norm([3.0, -4.0], 2) == 5
    assert rows.norm_slope([3.0, -4.0], 5.0, 2) == [3.0, -4.0]
    assert rows.generalised_mean([np.float64(1), np.float64(-9), np.float64(7)], 1.0, 1.0) == 3
    x = np.array([[[1.0, 5.0, 9.0]], [[2.0, 4.0, 8.0]]])
    assert rows.pooled(x, rows.mean, lengths=(2, 0)).tolist() == [[3.0], [0.0]]
    assert rows.pooled(x, rows.total, mask=((True, False, True), (False, True, False))).tolist() == [[10.0], [4.0]]


def test_sequences() -> None:
    values, indices = parts.k_largest(np.array([[4.0, 1.0, 7.0, 5.0, 5.0]]), 2)
    assert values.tolist() == [[7.0, 5.0]]
    assert indices.tolist() == [[2, 3]]
    assert parts.chunks(5, 3) == [[0, 1], [1, 2, 3], [3, 4]]
    assert parts.ranges(7, 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert parts.ranges(9, 2, 4) == [[0, 1], [4, 5], [8]]


def test_maps() -> None:
    x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    assert parts.pyramid_pool(x, (2, 1), "max").tolist() == [[2.0, 3.0, 5.0, 6.0, 6.0]]
    assert parts.subsample(x, np.array([2.0]), np.array([1.0]), (2, 2), (1, 1)).tolist() == [[[[25.0, 33.0]]]]
    descriptors, codebook = np.array([[[0.0, 1.0], [0.0, 2.0], [5.0, 5.0]]]), np.array([[0.0, 0.0], [5.0, 4.0]])
    assert parts.vlad(descriptors, codebook, None, False).tolist() == [[0.0, 3.0, 0.0, 1.0]]


def test_windows_and_weights() -> None:
    # alpha is 4 / 3: floors of 0.666, 2, 3.333 less the first; then two steps of 1 and one of 2.
    assert parts.pseudorandom_starts(0.5, 6, 2, 4) == [0, 2, 3, 4]
    assert parts.random_starts([0.9, 0.1, 0.5], 6, 2, 4) == [0, 1, 3, 4]
    # q is 2 and tau 1 / sqrt(4 * 2): both of the greater losses would have more, so both are held at it.
    weights = parts.loss_weights(np.array([0.0, 0.0, 3.0, 4.0]), 0.5, 2.0)
    np.testing.assert_allclose(weights.astype(float), [0, 0, 8**-0.5, 8**-0.5], rtol=1e-9)


def test_boxes() -> None:
    a, b = np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0]])
    assert Overlaps()("", a, b).tolist() == [[2 / 6]]
    assert Suppression()([*a.tolist(), *b.tolist()], [1.0, 2.0], 0.3) == [1]
    assert Suppression()([*a.tolist(), *b.tolist()], [1.0, 2.0], 0.34) == [1, 0]
