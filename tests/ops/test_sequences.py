"""Auto-pooling, expectation pooling and soft clusters, held to loops; wrong variants are seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import composed
from composed import Composed, case
from switchgrad import nn, ops
from switchgrad.errors import GeometryError, ModelError

# ---- sequences ---------------------------------------------------------------------------------------------------


def auto_loops(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape[:2])
    for n, c in np.ndindex(*x.shape[:2]):
        a = alpha[c] if alpha.ndim else float(alpha)
        weights = [math.exp(a * v) for v in x[n, c]]
        out[n, c] = sum(w * v for w, v in zip(weights, x[n, c], strict=True)) / sum(weights)
    return out


def above_loops(x: np.ndarray, m: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape[:2])
    for n, c in np.ndindex(*x.shape[:2]):
        values = x[n, c].reshape(-1)
        away = [float(m) * (v - values.mean()) for v in values]
        weights = [(np.sign(d) * math.exp(d) + math.exp(d)) / 2 for d in away]
        out[n, c] = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    return out


SEQUENCES = [
    Composed(
        "auto_pool",
        ops.auto_pool,
        auto_loops,
        (case((2, 3, 5), (3,)), case((1, 2, 4), ())),
        keeps_layout=False,
        compiled=True,
        precision=64,
    ),
    Composed(
        "expectation_pool",
        ops.expectation_pool,
        lambda x, m: auto_loops(x.reshape(*x.shape[:2], -1), m),
        (case((2, 3, 5), (3,)), case((2, 2, 3, 4), ()), case((1, 2, 2, 3, 2), (2,))),
        batch=False,
        keeps_layout=False,
        precision=64,
    ),
    Composed(
        "expectation_pool, above the mean",
        lambda x, m: ops.expectation_pool(x, m, above_mean=True),
        above_loops,
        (case((2, 3, 7), ()), case((2, 2, 3, 4), ())),
        batch=False,
        keeps_layout=False,
        precision=64,
        dtypes=(torch.float64, torch.float32),
    ),
]
test_sequences = composed.tests(*SEQUENCES)
test_auto_mutants = composed.mutant_tests(
    SEQUENCES[0],
    {
        "softness of the weights forgotten": lambda x, a: ops.auto_pool(x, 1.0),
        "mean": lambda x, a: x.mean(-1),
        "normalised over channels": lambda x, a: (x * (a.reshape(-1, 1) * x).softmax(1)).sum(-1),
    },
)
test_expectation_mutants = composed.mutant_tests(
    SEQUENCES[2], {"all values": lambda x, m: ops.expectation_pool(x, m), "max": lambda x, m: x.flatten(2).amax(-1)}
)


def test_masked_steps_take_no_part() -> None:
    x = torch.rand(3, 2, 6, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True, True, False, True, False, False], [False] * 6])
    alpha = torch.tensor([0.5, 3.0], dtype=torch.float64)
    wanted = [ops.auto_pool(one[:, keep], alpha) for one, keep in zip(x[:2], mask[:2], strict=True)]
    spoilt = torch.where(mask[:, None], x, torch.nan).requires_grad_()
    got = ops.auto_pool(spoilt, alpha, mask)
    torch.testing.assert_close(got[:2], torch.stack(wanted))
    assert got[2].tolist() == [0.0, 0.0]
    got.sum().backward()
    assert torch.equal(spoilt.grad != 0, mask[:, None].expand(3, 2, 6))
    assert torch.equal(ops.auto_pool(x, alpha, mask[1]), ops.auto_pool(x, alpha, mask[1].expand(3, 6)))


# ---- auto-pooling of features ------------------------------------------------------------------------------------


def cluster_loops(x: np.ndarray, logits: np.ndarray) -> np.ndarray:
    shares = np.array([[math.exp(v) for v in row] for row in logits])
    out = np.zeros((*x.shape[:-1], len(logits)))
    for at in np.ndindex(*out.shape):
        out[at] = sum(shares[at[-1], f] / shares[:, f].sum() * v for f, v in enumerate(x[at[:-1]]))
    return out


CLUSTERS = Composed(
    "cluster_pool",
    ops.cluster_pool,
    cluster_loops,
    (case((2, 4, 5), (3, 5)), case((1, 2, 4), (1, 4))),
    keeps_layout=False,
    precision=64,
)
test_clusters = composed.tests(CLUSTERS)
test_cluster_mutants = composed.mutant_tests(
    CLUSTERS,
    {
        "softmax over features": lambda x, v: x @ v.softmax(1).T,
        "clusters of the sign": lambda x, v: ops.cluster_pool(x, -v),
    },
)


def test_auto_pooling_finds_what_takes_turns() -> None:
    """Two pairs of features flicker; each pair ends in a cluster of its own."""
    generator = torch.Generator().manual_seed(1)
    level = torch.rand(64, 1, 2, generator=generator).expand(64, 10, 2)
    which = (torch.rand(64, 10, 2, generator=generator) < 0.5).float()
    frames = torch.stack([level * which, level * (1 - which)], -1).flatten(-2)
    torch.manual_seed(2)
    pool = nn.ClusterPool(4, 2)
    optimiser = torch.optim.Adam(pool.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss = pool.loss(frames)
        loss.backward()
        optimiser.step()
    member = pool.logits.argmax(0)
    assert member[0] == member[1] != member[2] == member[3]
    assert repr(pool) == "ClusterPool(features=4, clusters=2)"


def test_auto_pool_layer() -> None:
    layer = nn.AutoPool(3)
    assert layer(torch.rand(2, 3, 5), torch.ones(2, 5, dtype=torch.bool)).shape == (2, 3)
    assert "m" in nn.ExpectationPool(2.0).state_dict()


X = torch.rand(1, 2, 6, 6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.auto_pool(X[0], torch.rand(5)), r"\(6,\)"),
        (lambda: ops.auto_pool(X[0], 1.0, torch.ones(4, dtype=torch.bool)), "mask has shape"),
        (lambda: ops.auto_pool(X[0, 0, 0], 1.0), "at least one step"),
        (lambda: ops.expectation_pool(X[0, 0]), "expectation_pool takes"),
        (lambda: ops.expectation_pool(X, torch.rand(3)), r"\(2,\)"),
        (lambda: ops.cluster_pool(X, torch.rand(2, 5)), "the logits"),
        (lambda: ops.auto_pooling_loss(X[0, 0, :1], torch.rand(2, 6)), "two frames"),
        (lambda: nn.ClusterPool(0, 2), "at least 1"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises((GeometryError, ModelError), match=sentence):
        call()
