"""Pooling over time with padding that must not count, k-max and chunk pooling, against plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck

from switchgrad import nn, ops
from switchgrad.errors import GeometryError

LENGTHS = torch.tensor([4, 6, 1])
POOLS: dict[str, tuple[Any, Callable[[list[float]], float]]] = {
    "max": (ops.max_over_time, max),
    "average": (ops.avg_over_time, lambda v: sum(v) / len(v)),
    "sum": (ops.sum_over_time, sum),
    "L3": (lambda x, **k: ops.lp_over_time(x, 3, **k), lambda v: sum(abs(a) ** 3 for a in v) ** (1 / 3)),
    "L inf": (lambda x, **k: ops.lp_over_time(x, math.inf, **k), lambda v: max(map(abs, v))),
}


@pytest.mark.parametrize("name", POOLS)
def test_only_valid_steps_count(name: str) -> None:
    pool, meaning = POOLS[name]
    x = torch.randn(3, 2, 6, dtype=torch.float64)
    mask = torch.arange(6) < LENGTHS[:, None]
    x[~mask.unsqueeze(1).expand_as(x)] = math.nan
    wanted = [[meaning(x[n, c, : LENGTHS[n]].tolist()) for c in range(2)] for n in range(3)]
    x.requires_grad_()
    for padding in ({"lengths": LENGTHS}, {"mask": mask}, {"lengths": LENGTHS.int()}):
        y = pool(x, **padding)
        torch.testing.assert_close(y, torch.tensor(wanted, dtype=torch.float64))
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert (slope[~mask.unsqueeze(1).expand_as(x)] == 0).all()
        assert slope.isfinite().all()
    whole = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(pool(whole), pool(whole, lengths=torch.tensor([5, 5])))
    assert gradcheck(lambda t: pool(t, lengths=torch.tensor([5, 2])), whole)


def test_a_sequence_without_steps() -> None:
    x, none = torch.randn(1, 2, 3, requires_grad=True), torch.tensor([0])
    assert ops.max_over_time(x, lengths=none).tolist() == [[-math.inf] * 2]
    for pool in (ops.avg_over_time, ops.sum_over_time, lambda x, **k: ops.lp_over_time(x, 2, **k)):
        y = pool(x, lengths=none)
        assert y.tolist() == [[0.0, 0.0]]
        assert (torch.autograd.grad(y.sum(), x)[0] == 0).all()


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_k_max_keeps_the_order_and_the_earlier_of_equals(k: int) -> None:
    x = torch.randint(-3, 4, (4, 3, 7), generator=torch.Generator().manual_seed(k)).double()
    values, indices = ops.k_max_pool(x, k, return_indices=True)
    for row, kept, at in zip(x.flatten(0, 1).tolist(), values.flatten(0, 1), indices.flatten(0, 1), strict=True):
        best = sorted(sorted(range(7), key=lambda i, row=row: (-row[i], i))[:k])
        assert at.tolist() == best
        assert kept.tolist() == [row[i] for i in best]
    assert torch.equal(nn.KMaxPool(k)(x), values)
    distinct = torch.randperm(12, generator=torch.Generator().manual_seed(1)).reshape(2, 6).double().requires_grad_()
    assert gradcheck(lambda t: ops.k_max_pool(t, min(k, 6)), distinct)


def test_k_max_of_nan_beside_ties() -> None:
    """A NaN in one row and one too many of equal values in another do not make up for each other."""
    nan = torch.nan
    x = torch.tensor([[nan, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 0.0], [nan, nan, nan, 1.0]])
    assert ops.k_max_pool(x, 2, return_indices=True)[1].tolist() == [[0, 3], [0, 1], [0, 1]]


def test_chunks_and_ranges() -> None:
    x = torch.randn(2, 3, 10)
    assert torch.equal(ops.chunk_max_pool(x, 5), x.unflatten(-1, (5, 2)).amax(-1))
    assert torch.equal(ops.k_range_max_pool(x, 4), torch.stack([p.amax(-1) for p in x.split(4, -1)], -1))
    assert ops.dynamic_k(1, 2, 18, 3) == 9


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ops.max_over_time(x[0]), r"input \(N, C, L\)"),
        (lambda x: ops.sum_over_time(x, lengths=torch.ones(2)), "lengths have shape"),
        (lambda x: ops.avg_over_time(x, mask=torch.ones(2, 4)), "mask has shape"),
        (lambda x: ops.avg_over_time(x, mask=torch.ones(2, 4) > 0, lengths=torch.ones(2).long()), "both given"),
        (lambda x: ops.k_max_pool(x, 5), "k is 5"),
        (lambda x: ops.k_max_pool(x, 0), "k is 0"),
        (lambda x: ops.dynamic_k(3, 2, 4, 1), "layer 3 of 2"),
    ],
)
def test_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        call(torch.ones(2, 3, 4))


@pytest.mark.parametrize("lengths", [[-1, 3], [8, 3]])
def test_lengths_that_no_sequence_has_are_refused(lengths: list[int]) -> None:
    with pytest.raises(GeometryError, match=f"lengths go from {min(lengths)} to {max(lengths)}, and the sequences"):
        ops.avg_over_time(torch.ones(2, 3, 7), lengths=torch.tensor(lengths))
