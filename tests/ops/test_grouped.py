"""Group pooling, maxout and loss max-pooling: what they mean as loops, and what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import composed
from composed import Composed, case
from switchgrad import nn, ops
from switchgrad.errors import GeometryError


def group_loops(x: np.ndarray, group: str, over: str = "group", mode: str = "max") -> np.ndarray:
    subsets = {
        ("p4", "group"): [range(4)],
        ("p4", "rotations"): [range(4)],
        ("p4m", "group"): [range(8)],
        ("p4m", "rotations"): [range(4), range(4, 8)],
        ("p4m", "mirrors"): [(r, r + 4) for r in range(4)],
    }[group, over]
    rule = np.max if mode == "max" else np.mean
    parts = [rule([x[:, :, g] for g in members], axis=0) for members in subsets]
    return parts[0] if over == "group" else np.stack(parts, 2)


GROUP = Composed(
    "group_pool",
    ops.group_pool,
    group_loops,
    (
        case((2, 3, 4, 3, 2), group="p4"),
        case((1, 2, 8, 2, 3), group="p4m", over="mirrors"),
        case((1, 2, 8, 3, 2), group="p4m", over="rotations"),
        case((1, 2, 8, 3, 2), group="p4m", mode="mean"),
        case((1, 2, 4, 3, 2), group="p4", over="rotations", mode="mean"),
    ),
    batch=False,
    keeps_layout=False,
    compiled=True,
    layer=lambda c: nn.GroupPool(**c.arguments),
)


def maxout_loops(x: np.ndarray, pieces: int) -> np.ndarray:
    groups = range(x.shape[1] // pieces)
    return np.stack([np.max([x[:, c * pieces + k] for k in range(pieces)], axis=0) for c in groups], 1)


MAXOUT = Composed(
    "maxout",
    ops.maxout,
    maxout_loops,
    (case((2, 6), pieces=3), case((2, 4, 3, 5), pieces=2), case((1, 6, 2, 3, 2), pieces=6), case((2, 3, 4), pieces=1)),
    batch=False,
    precision=0,
)
test_selection = composed.tests(GROUP, MAXOUT)
test_group_mutants = composed.mutant_tests(
    GROUP,
    {
        "mean for maximum": lambda x, **a: ops.group_pool(x, **{**a, "mode": "mean"}),
        "over everything": lambda x, group, over="group", mode="max": ops.group_pool(x, group, "group", mode),
        "mirrors side by side": lambda x, **a: ops.group_pool(
            x.unflatten(2, (-1, 4)).transpose(2, 3).flatten(2, 3), **a
        ),
    },
)
test_maxout_mutants = composed.mutant_tests(
    MAXOUT,
    {
        "channels far apart": lambda x, pieces: torch.stack(x.chunk(pieces, 1)).amax(0),
        "minimum": lambda x, pieces: -ops.maxout(-x, pieces),
    },
)


def test_rotations_only_turn_what_is_left() -> None:
    """A convolution lifted to p4: a turned input turns and shifts its maps; pooled over the group they only turn."""
    torch.manual_seed(1)
    kernel = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    bank = torch.stack([kernel.rot90(r, (-2, -1)) for r in range(4)], 1).flatten(0, 1)

    def lift(x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, bank).unflatten(1, (2, 4))

    x = torch.randn(1, 1, 7, 7, dtype=torch.float64)
    turned = lift(x.rot90(1, (-2, -1)))
    torch.testing.assert_close(turned, lift(x).rot90(1, (-2, -1)).roll(1, 2))
    pooled = [ops.group_pool(lift(y), "p4") for y in (x, x.rot90(1, (-2, -1)))]
    torch.testing.assert_close(pooled[1], pooled[0].rot90(1, (-2, -1)))


def test_ties_go_to_the_first() -> None:
    x = torch.ones(1, 4, requires_grad=True)
    ops.maxout(x, 2).sum().backward()
    assert x.grad.tolist() == [[1, 0, 1, 0]]
    y = torch.ones(1, 1, 8, 1, 1, requires_grad=True)
    ops.group_pool(y, "p4m", over="mirrors").sum().backward()
    assert y.grad.flatten().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert ops.maxout(torch.empty(0, 4, 3)).shape == (0, 2, 3)
    nhwc = torch.rand(2, 4, 3, 3).to(memory_format=torch.channels_last)
    assert ops.maxout(nhwc).is_contiguous(memory_format=torch.channels_last)


# ---- loss max-pooling --------------------------------------------------------------------------------------------


def best_weights(losses: list[float], ratio: float, p: float) -> list[float]:
    """min(tau, c loss^(q-1)) with the c found by bisection: the conditions of Karush, Kuhn and Tucker."""
    n = len(losses)
    m = max(math.ceil(ratio * n), 1)
    q = p / (p - 1)
    gamma = n ** (-1 / q)
    tau = gamma * m ** (-1 / p)
    low, high = 0.0, 1e12
    for _ in range(400):
        c = (low + high) / 2
        weights = [min(tau, c * max(loss, 0) ** (q - 1)) for loss in losses]
        low, high = (c, high) if sum(w**p for w in weights) < gamma**p else (low, c)
    return weights


@pytest.mark.parametrize("p", [1.2, 1.7, 2.0, 5.0])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.75, 1.0])
def test_weights_solve_the_problem(p: float, ratio: float) -> None:
    losses = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3 * 4
    losses[0, 0, :2] = torch.tensor([0.0, 9.0])
    weights = ops.loss_max_weights(losses, ratio, p)
    wanted = best_weights(losses.flatten().tolist(), ratio, p)
    torch.testing.assert_close(weights.flatten(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-7, atol=1e-9)
    pooled = ops.loss_max_pool(losses, ratio, p)
    n, q = 40, p / (p - 1)
    m = max(math.ceil(ratio * n), 1)
    assert (weights**p).sum() <= n ** (-p / q) * (1 + 1e-9)
    assert weights.max() <= n ** (-1 / q) * m ** (-1 / p) * (1 + 1e-9)
    assert int((weights > 0).sum()) >= min(m, int((losses > 0).sum()))
    # No other feasible weighting has a greater loss: many are tried.
    generator = torch.Generator().manual_seed(2)
    tau = n ** (-1 / q) * m ** (-1 / p)
    for _ in range(300):
        w = (torch.rand(40, generator=generator, dtype=torch.float64) ** 4 * losses.flatten()).clamp_max(tau)
        w = (w * (n ** (-1 / q) / (w**p).sum() ** (1 / p))).clamp_max(tau)
        assert (w * losses.flatten()).sum() <= pooled * (1 + 1e-9)
    assert pooled >= losses.mean() * (1 - 1e-12)
    alone = ops.loss_max_pool(losses, ratio, p, per_sample=True)
    torch.testing.assert_close(alone[1], ops.loss_max_pool(losses[1], ratio, p))


def test_losses_at_the_ends() -> None:
    losses = torch.tensor([[4.0, 1.0, 3.0, 0.0]])
    assert ops.loss_max_pool(losses, 0.5, 1.0).item() == 3.5
    assert ops.loss_max_pool(losses, 0.1, math.inf).item() == 2.0
    assert ops.loss_max_pool(losses, 1.0, 2.0).item() == pytest.approx(2.0)
    assert ops.loss_max_weights(losses, 0.1, 1.0).tolist() == [[1, 0, 0, 0]]
    assert ops.loss_max_weights(torch.zeros(4)).tolist() == [0.25] * 4
    assert ops.loss_max_weights(torch.tensor([-1.0, 2.0]), 1.0, 2.0)[0] == 0
    assert ops.loss_max_pool(torch.tensor([1.0, torch.nan])).isnan()
    equal = ops.loss_max_weights(torch.ones(10), 0.3, 1.7)
    torch.testing.assert_close(equal, torch.full((10,), 0.1))
    assert ops.loss_max_weights(torch.tensor([5.0, 5.0, 5.0, 1e-30]), 0.25, 1.7).isfinite().all()
    half = ops.loss_max_pool(torch.rand(50, dtype=torch.float16) * 100)
    assert half.dtype == torch.float16
    assert half.isfinite()


def test_loss_gradient_is_the_weights() -> None:
    losses = torch.rand(30, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    for p in (1.0, 1.7, 4.0):
        assert gradcheck(lambda x, p=p: ops.loss_max_pool(x, 0.3, p), losses, eps=1e-7)
        (grad,) = torch.autograd.grad(ops.loss_max_pool(losses, 0.3, p), losses)
        torch.testing.assert_close(grad, ops.loss_max_weights(losses, 0.3, p))
    layer = nn.LossMaxPool(0.2, 2.0, per_sample=True)
    assert layer(torch.rand(3, 8, 8)).shape == (3,)
    assert repr(layer) == "LossMaxPool(ratio=0.2, p=2.0, per_sample=True)"


def test_wrong_weights_are_seen() -> None:
    losses = torch.tensor([0.1, 0.2, 0.4, 1.5], dtype=torch.float64)
    right = ops.loss_max_weights(losses, 0.5, 1.7)
    for wrong in (
        ops.loss_max_weights(losses, 0.25, 1.7),
        ops.loss_max_weights(losses, 0.5, 2.0),
        losses / losses.sum(),
        right.flip(0),
    ):
        assert not torch.allclose(wrong, torch.tensor(best_weights(losses.tolist(), 0.5, 1.7), dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.group_pool(torch.rand(1, 2, 5, 3, 3), "p4"), "needs 4 maps"),
        (lambda: ops.group_pool(torch.rand(1, 2, 4, 3, 3), "p6"), '"p4" or "p4m"'),
        (lambda: ops.group_pool(torch.rand(1, 2, 4, 3, 3), "p4", over="mirrors"), "no mirrors"),
        (lambda: ops.maxout(torch.rand(1, 3), 2), "multiple of 2 channels"),
        (lambda: ops.maxout(torch.rand(1, 3), 0), "pieces is 0; give an integer of at least 1"),
        (lambda: ops.maxout(torch.ones(1, 4, dtype=torch.int32)), "floating-point"),
        (lambda: ops.loss_max_pool(torch.rand(3), ratio=0.0), "ratio is 0.0"),
        (lambda: ops.loss_max_pool(torch.rand(3), p=0.5), "p 0.5"),
        (lambda: ops.loss_max_pool(torch.rand(0)), "one floating-point number a pixel"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        call()
