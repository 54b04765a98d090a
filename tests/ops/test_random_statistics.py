"""Random pooling draws with the probabilities that its papers say, and evaluates to their expectation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.engines import threads
from switchgrad import geometry, kernels, ops
from switchgrad.ops.stochastic import reference

WINDOWS = 40_000
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def generator(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def chi_square(counts: Tensor, chances: list[float]) -> float:
    """How many standard deviations the statistic lies above its mean; classes without a chance must be empty."""
    expected = torch.tensor(chances, dtype=torch.float64) * float(counts.sum())
    assert int(counts[expected == 0].sum()) == 0
    some = expected > 0
    freedom = int(some.sum()) - 1
    statistic = float(((counts[some] - expected[some]) ** 2 / expected[some]).sum())
    return (statistic - freedom) / math.sqrt(2 * freedom)


def windows(cells: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(cells, dtype=dtype).repeat(WINDOWS).reshape(1, 4, 2, -1)


def codes_of(name: str, cells: list[float], dtype: torch.dtype = torch.float32, **options: float) -> Tensor:
    x = windows(cells, dtype)
    function = getattr(ops, name)
    return function(x, (1, len(cells)), **options, generator=generator(11), return_switches=True)[1].codes.flatten()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "cells",
    [
        [1.0, 2.0, 0.0, 5.0],
        [0.5, 0.5, 0.5],
        [-3.0, 1.0, -1.0, 7.0, 2.0],
        [3e4, 1e4, 0.0],
        [1e-5, 3e-5],
    ],
)
def test_stochastic_probabilities_are_the_shares(cells: list[float], dtype: torch.dtype) -> None:
    given = [max(c, 0.0) for c in torch.tensor(cells, dtype=dtype).tolist()]
    counts = codes_of("stochastic_pool2d", cells, dtype).bincount(minlength=len(cells)).double()
    assert abs(chi_square(counts, [c / sum(given) for c in given])) < 5


@pytest.mark.parametrize("cells", [[0.0] * 5, [-1.0, -2.0, 0.0], [-4.0, -math.inf, -1.0, -1.0]])
def test_windows_without_activation_are_drawn_evenly(cells: list[float]) -> None:
    counts = codes_of("stochastic_pool2d", cells).bincount(minlength=len(cells)).double()
    chances = [float(c > -math.inf) for c in cells]
    assert abs(chi_square(counts, [c / sum(chances) for c in chances])) < 5


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_kth_largest_is_retained_with_probability_q_p_to_the_k(p: float) -> None:
    cells = [2.0, 7.0, 1.0, 4.0]
    codes = codes_of("max_pool_dropout2d", cells, p=p)
    ranks = sorted(range(4), key=lambda i: -cells[i])
    counts = torch.tensor([float((codes == i).sum()) for i in (*ranks, 255)], dtype=torch.float64)
    assert abs(chi_square(counts, [*((1 - p) * p**k for k in range(4)), p**4])) < 5


def test_draws_are_independent() -> None:
    """Neighbouring windows, neighbouring maps, and two seeds: chances of a pair are products."""
    x = torch.tensor([1.0, 3.0]).repeat(WINDOWS).reshape(2, 4, 1, -1)
    first, second = (
        ops.stochastic_pool2d(x, (1, 2), generator=generator(s), return_switches=True)[1].codes for s in (1, 2)
    )
    pairs = [(first[..., 1:], first[..., :-1]), (first[:, 1:], first[:, :-1]), (first[1], first[0]), (first, second)]
    for left, right in pairs:
        counts = (2 * left.long() + right.long()).flatten().bincount(minlength=4).double()
        assert abs(chi_square(counts, [1 / 16, 3 / 16, 3 / 16, 9 / 16])) < 5


@pytest.mark.parametrize(("name", "options"), [("stochastic_pool2d", {}), ("max_pool_dropout2d", {"p": 0.3})])
def test_evaluation_is_the_mean_of_training(name: str, options: dict[str, float]) -> None:
    x = torch.rand(1, 1, 3, 6, generator=generator(3), dtype=torch.float64) * 4
    many = x.expand(20_000, 1, 3, 6)
    function = getattr(ops, name)
    drawn = function(many, 3, **options, generator=generator(4))
    wanted = function(x, 3, **options, training=False)[0]
    spread = drawn.std(0) / math.sqrt(len(drawn))
    assert bool(((drawn.mean(0) - wanted).abs() < 5 * spread).all())


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_reference_draws_the_same_codes(dtype: torch.dtype) -> None:
    """Bit for bit, by every instruction set, any number of threads and in both layouts; long rows and many maps."""
    x = (torch.randn(2, 19, 15, 133, generator=generator(5)) * 3).to(dtype)
    seed = torch.tensor(-(2**62) + 12345)
    for kernel, stride in ((2, 2), (3, 2), ((3, 5), (1, 3))):
        args = geometry.window(2, kernel, stride, 1).numbers
        for name, more in (("stochastic_pool", ()), ("max_pool_dropout", (0.6,))):
            wanted = getattr(reference, name)(x, seed, *more, args)
            for isa in kernels.isas():
                for laid, many in ((x, 1), (x.contiguous(memory_format=torch.channels_last), 3)):
                    with kernels.use_isa(isa), threads(many):
                        got = getattr(torch.ops.switchgrad, name)(laid, seed, *more, args)
                    assert torch.equal(got[1], wanted[1])
                    assert torch.equal(got[0], wanted[0])


def test_dropped_cells_are_those_that_dropout_drops() -> None:
    x = torch.rand(2, 3, 8, 9, generator=generator(6)) + 0.1
    left = ops.dropout(x, 0.4, generator=generator(7))
    got = ops.max_pool_dropout2d(x, 2, p=0.4, generator=generator(7))
    assert torch.equal(got, ops.max_pool2d(torch.where(left == 0, 0, x), 2))


@pytest.mark.parametrize("function", [ops.stochastic_pool2d, ops.max_pool_dropout2d])
def test_vmap_draws_for_each_or_for_all(function: object) -> None:
    x = torch.rand(1, 3, 8, 8, generator=generator(8)).expand(4, 3, 8, 8)

    def one(x: Tensor) -> Tensor:
        return function(x, 2)  # type: ignore[operator]

    same = torch.func.vmap(one, randomness="same")(x)
    assert all(torch.equal(other, same[0]) for other in same[1:])
    different = torch.func.vmap(one, randomness="different")(x)
    assert not any(torch.equal(other, different[0]) for other in different[1:])
    with pytest.raises(RuntimeError, match="random"):
        torch.func.vmap(one)(x)


@pytest.mark.parametrize("function", [ops.stochastic_pool2d, ops.max_pool_dropout2d])
def test_compiled_in_one_graph_with_its_own_seed(function: object) -> None:
    x = torch.rand(2, 2, 6, 6, generator=generator(9)).requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(lambda x: function(x, 2, return_switches=True), backend="aot_eager", fullgraph=True)  # type: ignore[operator]
    torch.manual_seed(5)
    values, switches = compiled(x)
    torch.manual_seed(5)
    wanted, theirs = function(x, 2, return_switches=True)  # type: ignore[operator]
    assert torch.equal(switches.codes, theirs.codes)
    assert torch.equal(*torch.autograd.grad(values.sum(), x), *torch.autograd.grad(wanted.sum(), x))
