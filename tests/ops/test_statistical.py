"""Pooling by statistics, held to loops: likelihood, entropy, both extremes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import composed
from composed import Composed, case, over_windows
from switchgrad import nn, ops
from switchgrad.errors import GeometryError
from windowed import CASES

GAMMA = {1: ops.gamma_pool1d, 2: ops.gamma_pool2d, 3: ops.gamma_pool3d}
WEIBULL = {1: ops.weibull_pool1d, 2: ops.weibull_pool2d, 3: ops.weibull_pool3d}
MAX_MIN = {1: ops.max_min_pool1d, 2: ops.max_min_pool2d, 3: ops.max_min_pool3d}
LAYERS = {
    "gamma": {1: nn.GammaPool1d, 2: nn.GammaPool2d, 3: nn.GammaPool3d},
    "weibull": {1: nn.WeibullPool1d, 2: nn.WeibullPool2d, 3: nn.WeibullPool3d},
    "max_min": {1: nn.MaxMinPool1d, 2: nn.MaxMinPool2d, 3: nn.MaxMinPool3d},
}
# A window of one cell has no spread, so no shape: padding and ceil mode make such windows.
SOME = {dims: tuple(c for c in CASES[dims] if not c.arguments.get("ceil_mode")) for dims in CASES}


def positive(c: composed.Case, g: torch.Generator) -> tuple[Tensor]:
    return (torch.rand(c.shapes[0], generator=g, dtype=torch.float64) * 3 + 0.2,)


def gamma_scale(cells: list[tuple[int, float]]) -> float:
    x = [v for _, v in cells]
    n = len(x)
    return sum(v * math.log(v) for v in x) / n - sum(x) / n * sum(map(math.log, x)) / n


def weibull_equation(x: list[float], k: float) -> float:
    x = [v / max(x) for v in x]  # which changes nothing but the size of the powers
    above = sum(v**k * math.log(v) for v in x) / sum(v**k for v in x)
    return above - 1 / k - sum(map(math.log, x)) / len(x)


def weibull_shape(cells: list[tuple[int, float]]) -> float:
    """By bisection: the equation rises with k."""
    x = [v for _, v in cells]
    low, high = 1e-3, 100.0
    if weibull_equation(x, high) <= 0:
        return 100.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if weibull_equation(x, middle) < 0 else (low, middle)
    return low


def weibull_scale(shape: float | None) -> Any:
    def rule(cells: list[tuple[int, float]]) -> float:
        k = weibull_shape(cells) if shape is None else shape
        return (sum(v**k for _, v in cells) / len(cells)) ** (1 / k)

    return rule


def likelihood(name: str, dims: int, rule: Any, twice: bool = True, **options: Any) -> Composed:
    function = (GAMMA if name == "gamma" else WEIBULL)[dims]
    return Composed(
        f"{name}_pool{dims}d {options}",
        lambda x, **a: function(x, **a, **options),
        lambda x, **a: over_windows(x, dims, rule, **a),
        SOME[dims],
        draw=positive,
        dtypes=(torch.float64, torch.float32),
        twice=twice,
        layer=lambda c: LAYERS[name][dims](**c.arguments, **options),
        precision=512,
    )


LIKELIHOOD = [
    *(likelihood("gamma", d, gamma_scale) for d in (1, 2, 3)),
    *(likelihood("weibull", d, weibull_scale(None)) for d in (1, 2, 3)),
    likelihood("weibull", 2, weibull_scale(2.5), shape=2.5),
]
test_likelihood = composed.tests(*LIKELIHOOD)
test_gamma_mutants = composed.mutant_tests(
    LIKELIHOOD[1],
    {
        "mean": lambda x, **a: ops.general_pool2d(x, lambda c: c.mean(-1), **a),
        "variance over mean": lambda x, **a: ops.general_pool2d(x, lambda c: c.var(-1) / c.mean(-1), **a),
        "padding counts": lambda x, **a: ops.general_pool2d(
            x, lambda c: (c * c.clamp_min(1e-6).log()).mean(-1) - c.mean(-1) * c.clamp_min(1e-6).log().mean(-1), **a
        ),
    },
)
test_weibull_mutants = composed.mutant_tests(
    LIKELIHOOD[4],
    {
        "shape of 1": lambda x, **a: ops.weibull_pool2d(x, **a, shape=1.0),
        "shape of 2": lambda x, **a: ops.weibull_pool2d(x, **a, shape=2.0),
        "shape for scale": lambda x, **a: ops.weibull_pool2d(x, **a, statistic="shape"),
        "max": ops.max_pool2d,
    },
)


@pytest.mark.parametrize("statistic", ["scale", "shape"])
@pytest.mark.parametrize("pool", [ops.gamma_pool2d, ops.weibull_pool2d])
def test_each_statistic_follows_the_layout(pool: Any, statistic: str) -> None:
    x = torch.rand(2, 3, 6, 6).add(0.1).contiguous(memory_format=torch.channels_last)
    assert pool(x, 2, statistic=statistic).is_contiguous(memory_format=torch.channels_last)


def test_shapes() -> None:
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64) + 0.1
    wanted = over_windows(x.numpy(), 2, weibull_shape, kernel_size=3)
    torch.testing.assert_close(ops.weibull_pool2d(x, 3, statistic="shape"), torch.from_numpy(wanted), rtol=1e-6, atol=0)
    mean = torch.nn.functional.avg_pool2d(x, 3)
    torch.testing.assert_close(ops.gamma_pool2d(x, 3, statistic="shape") * ops.gamma_pool2d(x, 3), mean)


def test_fits_find_the_parameters() -> None:
    torch.manual_seed(1)
    gamma = torch.distributions.Gamma(3.0, 0.5).sample((1, 1, 4000)).double()
    weibull = torch.distributions.Weibull(2.0, 1.7).sample((1, 1, 4000)).double()
    assert ops.gamma_pool1d(gamma, 4000).item() == pytest.approx(2.0, rel=0.1)
    assert ops.gamma_pool1d(gamma, 4000, statistic="shape").item() == pytest.approx(3.0, rel=0.1)
    assert ops.weibull_pool1d(weibull, 4000).item() == pytest.approx(2.0, rel=0.05)
    assert ops.weibull_pool1d(weibull, 4000, statistic="shape").item() == pytest.approx(1.7, rel=0.05)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-4, 0.01, 1.0, 5.0, 11.0])
def test_weibull_of_any_spread(spread: float) -> None:
    """Newton's method arrives, from nearly equal values to five orders of magnitude."""
    x = torch.exp(spread * torch.linspace(-1, 1, 9, dtype=torch.float64)).reshape(1, 1, 9).requires_grad_()
    y = ops.weibull_pool1d(x, 9, eps=1e-12)
    cells = list(enumerate(x.flatten().tolist()))
    assert y.item() == pytest.approx(weibull_scale(None)(cells), rel=1e-6)
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_values_without_a_logarithm() -> None:
    x = torch.tensor([[0.0, -3.0, 2.0, 2.0]], requires_grad=True)
    for y in (ops.gamma_pool1d(x, 2), ops.weibull_pool1d(x, 2), ops.weibull_pool1d(x, 2, statistic="shape")):
        assert y.isfinite().all()
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert grad.isfinite().all()
        assert not grad[0, 1]
    assert ops.gamma_pool1d(x, 2)[0, 1] == 0
    assert ops.gamma_pool1d(torch.tensor([[1.0, torch.nan]]), 2).isnan().all()
    assert ops.weibull_pool1d(torch.tensor([[1.0, torch.nan]]), 2).isnan().all()


# ---- entropy and both extremes -----------------------------------------------------------------------------------


def entropy_loops(x: np.ndarray) -> np.ndarray:
    out = np.zeros(x.shape[:2])
    for n, c in np.ndindex(*out.shape):
        values = [max(v, 0.0) for v in x[n, c].reshape(-1)]
        total = sum(values)
        out[n, c] = -sum(v / total * math.log(v / total) for v in values if v > 0)
    return out


ENTROPY = Composed(
    "global_entropy_pool",
    ops.global_entropy_pool,
    entropy_loops,
    (case((2, 3, 7)), case((2, 2, 3, 4)), case((1, 2, 2, 3, 2))),
    batch=False,
    keeps_layout=False,
    compiled=True,
    layer=lambda c: nn.GlobalEntropyPool(),
)
test_entropy = composed.tests(ENTROPY)
test_entropy_mutants = composed.mutant_tests(
    ENTROPY,
    {
        "bits": lambda x: ops.global_entropy_pool(x) / math.log(2),
        "absolute values": lambda x: ops.global_entropy_pool(x.abs()),
        "softmax": lambda x: (p := x.flatten(2).softmax(-1)).mul(-p.log()).sum(-1),
        "average": lambda x: x.flatten(2).mean(-1),
    },
)


def test_entropy_of_nothing_and_of_anything() -> None:
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [2.0, 2.0, 2.0], [1.0, torch.nan, 0.0]]], requires_grad=True)
    y = ops.global_entropy_pool(x)
    assert y[0].tolist() == pytest.approx([0, 0, math.log(3), torch.nan], nan_ok=True)
    y[0, :3].sum().backward()
    assert x.grad[0, :3].tolist() == [[0, 0, 0], [0, 0, 0], [pytest.approx(0, abs=1e-6)] * 3]
    assert (ops.global_entropy_pool(x * 7)[0, :3] - y[0, :3]).abs().max() < 1e-6


def max_min_loops(dims: int) -> Any:
    def loops(x: np.ndarray, **arguments: Any) -> np.ndarray:
        top = over_windows(x, dims, lambda cells: max(v for _, v in cells), **arguments)
        low = over_windows(x, dims, lambda cells: -min(v for _, v in cells), **arguments)
        return np.concatenate([top, low], 1)

    return loops


EXTREMES = [
    Composed(
        f"max_min_pool{d}d",
        MAX_MIN[d],
        max_min_loops(d),
        CASES[d],
        precision=0,
        layer=lambda c, d=d: LAYERS["max_min"][d](**c.arguments),
    )
    for d in (1, 2, 3)
]
test_extremes = composed.tests(*EXTREMES)
test_extremes_mutants = composed.mutant_tests(
    EXTREMES[1],
    {
        "minima with their sign": lambda x, **a: torch.cat([ops.max_pool2d(x, **a), -ops.max_pool2d(-x, **a)], 1),
        "minima first": lambda x, **a: ops.max_min_pool2d(-x, **a),
        "one maximum over both": lambda x, **a: ops.max_pool2d(torch.cat([x, x], 1), **a),
    },
)

X = torch.rand(1, 2, 6, 6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.gamma_pool2d(X, 2, statistic="mean"), "scale"),
        (lambda: ops.gamma_pool2d(X, 2, eps=0.0), "positive one"),
        (lambda: ops.weibull_pool2d(X, 2, shape=-1.0), "positive one"),
        (lambda: ops.weibull_pool2d(X.long(), 2), "dtype torch.int64"),
        (lambda: ops.global_entropy_pool(X[0, 0]), "global_entropy_pool takes"),
        (lambda: ops.max_min_pool2d(X, 7), "spans 7 cells"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        call()


@pytest.mark.parametrize("statistic", ["scale", "shape"])
def test_second_derivatives_of_a_fitted_shape(statistic: str) -> None:
    x = torch.tensor([[[0.5, 0.9], [1.2, 0.7]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: ops.weibull_pool2d(x, 2, statistic=statistic), x)


def test_entropy_of_the_largest_numbers() -> None:
    x = torch.full((1, 1, 4), 1e38, requires_grad=True)
    y = ops.global_entropy_pool(x)
    y.sum().backward()
    assert y.item() == pytest.approx(math.log(4))
    assert (x.grad == 0).all()
    assert ops.global_entropy_pool(torch.tensor([[[1.0, math.inf]]])).isnan().all()
