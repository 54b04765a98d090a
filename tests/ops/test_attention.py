"""SoftPool, local importance-based pooling and general pooling, held to loops; wrong variants are seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import composed
from composed import Composed, over_windows
from switchgrad import nn, ops
from switchgrad.errors import GeometryError, ModelError
from windowed import CASES, laid, with_parameters

SOFT = {1: ops.soft_pool1d, 2: ops.soft_pool2d, 3: ops.soft_pool3d}
GENERAL = {1: ops.general_pool1d, 2: ops.general_pool2d, 3: ops.general_pool3d}


def soft(cells: list[tuple[int, float]]) -> float:
    top = max(v for _, v in cells)
    weights = [math.exp(v - top) for _, v in cells]
    return sum(w * v for w, (_, v) in zip(weights, cells, strict=True)) / sum(weights)


# ---- SoftPool and LIP --------------------------------------------------------------------------------------------


def soft_pool(dims: int) -> Composed:
    layer = {1: nn.SoftPool1d, 2: nn.SoftPool2d, 3: nn.SoftPool3d}[dims]
    return Composed(
        f"soft_pool{dims}d",
        SOFT[dims],
        lambda x, **a: over_windows(x, dims, soft, **a),
        CASES[dims],
        compiled=dims == 2,
        layer=lambda c: layer(**c.arguments),
    )


def lip_loops(x: np.ndarray, logits: np.ndarray, **arguments: Any) -> np.ndarray:
    dims = x.ndim - 2
    # Each window of the weighted map over each window of the weights.
    weights = np.exp(np.broadcast_to(logits, x.shape))
    above, below = (
        over_windows(y, dims, lambda cells: sum(v for _, v in cells), **arguments) for y in (weights * x, weights)
    )
    return above / below


def lip_pool(dims: int, shared: bool) -> Composed:
    def shapes(c: composed.Case) -> list[tuple[int, ...]]:
        n, ch, *size = c.shapes[0]
        return [(n, 1 if shared else ch, *size)]

    return with_parameters(
        "lip", dims, shapes, reference=lip_loops, batched_tensors=2, note=", shared" if shared else "", precision=64
    )


test_attention = composed.tests(*(soft_pool(d) for d in (1, 2, 3)), *(lip_pool(d, d == 2) for d in (1, 2, 3)))


test_soft_mutants = composed.mutant_tests(
    soft_pool(2),
    {
        "max": ops.max_pool2d,
        "padding counts": lambda x, **a: (y := laid(x, **a)).mul(y.softmax(-1)).sum(-1),
        "log-sum-exp": lambda x, **a: laid(x, -torch.inf, **a).logsumexp(-1),
        "weights of all maps": lambda x, **a: ops.lip_pool2d(x, x.sum(1, keepdim=True), **a),
        "half as soft": lambda x, **a: ops.lip_pool2d(x, x / 2, **a),
    },
)
test_lip_mutants = composed.mutant_tests(
    lip_pool(2, True),
    {
        "softmax over the whole map": lambda x, w, **a: laid(x * w.flatten(1).softmax(1).reshape(w.shape), **a).sum(-1),
        "sign of the logits": lambda x, w, **a: ops.lip_pool2d(x, -w, **a),
        "average": lambda x, w, **a: ops.lip_pool2d(x, torch.zeros_like(x), **a),
    },
)


def test_soft_pool_at_extremes() -> None:
    inf = torch.inf
    x = torch.tensor([[-inf, 2.0, 3e38, 3e38, -inf, -inf, 1.0, torch.nan]], requires_grad=True)
    y = ops.soft_pool1d(x, 2)
    assert y[0, :2].tolist() == [2.0, pytest.approx(3e38, rel=1e-6)]
    assert y[0, 2:].isnan().all()
    y[0, :2].sum().backward()
    assert x.grad[0, :2].tolist() == [0.0, 1.0]
    assert not ops.soft_pool1d(torch.tensor([[60000.0, -60000.0]], dtype=torch.float16), 2).isnan()


@pytest.mark.parametrize("far", [30.0, 45.0, -70.0, 200.0, 3e38])
def test_attention_is_the_same_beside_a_far_value(far: float) -> None:
    """Small exponents are summed as they are, others about the largest of each window; both say the same."""
    generator = torch.Generator().manual_seed(3)
    x = (8 * torch.randn(1, 2, 7, 6, generator=generator, dtype=torch.float64)).clamp(-20, 20)
    spoilt = x.clone()
    spoilt[0, 1, 0, 0] = far
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    for pool in (ops.soft_pool2d, lambda t, **w: ops.lip_pool2d(x, t, **w)):
        found = []
        for given in (x, spoilt):
            leaf = given.clone().requires_grad_()
            y = pool(leaf, **window)
            found.append((y, torch.autograd.grad(y.square().sum(), leaf)[0]))
        for mine, other in zip(*found, strict=True):
            torch.testing.assert_close(mine[:, 0], other[:, 0], rtol=1e-11, atol=1e-11)


def test_importance_leaves_out_what_is_infinitely_small() -> None:
    x = torch.tensor([[-torch.inf, 2.0, 1.0, 3.0]])
    assert ops.lip_pool1d(x, torch.zeros(1, 4), 2).tolist() == [[1.0, 2.0]]


# ---- general -----------------------------------------------------------------------------------------------------


def test_general_is_every_other_kind() -> None:
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    arguments = {"kernel_size": 3, "stride": 2, "padding": 1}
    assert torch.equal(
        ops.general_pool2d(x, lambda c: c.amax(-1), **arguments, fill=-torch.inf), ops.max_pool2d(x, **arguments)
    )
    torch.testing.assert_close(
        ops.general_pool2d(x, lambda c: c.mean(-1), **arguments), torch.nn.functional.avg_pool2d(x, 3, 2, 1)
    )
    norm = ops.general_pool1d(x[0], lambda c: c.pow(3).sum(-1), 2)[0]
    torch.testing.assert_close(norm, x[0, 0].reshape(7, 4, 2).pow(3).sum(-1))


def general(dims: int) -> Composed:
    def product(cells: Tensor) -> Tensor:
        return cells.prod(-1)

    return Composed(
        f"general_pool{dims}d",
        lambda x, **a: GENERAL[dims](x, product, **a, fill=1.0),
        lambda x, **a: over_windows(x, dims, lambda cells: math.prod(v for _, v in cells), **a),
        CASES[dims],
        dtypes=(torch.float64, torch.float32),
        twice=False,
        precision=256,
    )


test_general = composed.tests(*(general(d) for d in (1, 2, 3)))


X = torch.rand(1, 2, 6, 6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.lip_pool2d(X, torch.rand(1, 2, 6, 5), 2), "must broadcast"),
        (lambda: ops.soft_pool2d(X.int(), 2), "dtype torch.int32"),
        (lambda: ops.soft_pool2d(X, 7), "spans 7 cells"),
        (lambda: ops.general_pool2d(X, lambda c: c, 2), "one number a window"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises((GeometryError, ModelError), match=sentence):
        call()
