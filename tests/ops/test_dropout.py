"""Dropout: known answers of the generator, the mask's statistics, the same bits everywhere, derivatives, sentences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from harness.engines import threads
from switchgrad import kernels, ops
from switchgrad.errors import GeometryError
from switchgrad.ops import counted
from switchgrad.ops.dropout import reference

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SEED = torch.tensor(0x0123456789ABCDEF)


def seeded(number: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize(
    ("key", "counter", "words"),  # published with Random123
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_generator_gives_its_published_answers(
    key: tuple[int, int], counter: tuple[int, int], words: tuple[int, int]
) -> None:
    def joined(pair: tuple[int, int]) -> Tensor:
        number = pair[0] | pair[1] << 32
        return torch.tensor(number - (number >> 63 << 64))

    x, y = counted.threefry(joined(key), joined(counter))
    assert (int(x), int(y)) == words


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 2048, 2049, 70001])
def test_the_kernels_draw_what_the_reference_draws(dtype: torch.dtype, count: int) -> None:
    x = torch.randn(count, generator=seeded()).to(dtype)
    x[::5] = torch.inf
    for isa in kernels.isas():
        for many in (1, 3):
            with kernels.use_isa(isa), threads(many):
                got = torch.ops.switchgrad.dropout(x, SEED, 0.3)
            assert torch.equal(got, reference.dropout(x, SEED, 0.3))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "axis"), [((5, 70), 1), ((3, 7, 5, 6), 1), ((3, 5, 6, 7), 3), ((4, 3000), 1)])
def test_bias_and_relu_in_front(dtype: torch.dtype, shape: tuple[int, ...], axis: int) -> None:
    x = (torch.randn(shape, generator=seeded()) * 3).to(dtype)
    for bias in (None, torch.randn(shape[axis], generator=seeded(1))):
        for isa in kernels.isas():
            with kernels.use_isa(isa):
                got = torch.ops.switchgrad.bias_relu_dropout(x, bias, SEED, 0.4, axis)
            assert torch.equal(got, reference.bias_relu_dropout(x, bias, SEED, 0.4, axis))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.85])
def test_statistics_of_the_mask(p: float) -> None:
    """The share of dropped elements, that of pairs at several distances and of two seeds: within 4 deviations."""
    count = 1 << 20
    ones = torch.ones(count)
    dropped = (ops.dropout(ones, p, generator=seeded()) == 0).double()
    other = (ops.dropout(ones, p, generator=seeded(8)) == 0).double()
    assert abs(dropped.mean() - p) < 4 * math.sqrt(p * (1 - p) / count)
    spread = 4 * math.sqrt(p**2 * (1 - p**2) / (count - 64))
    for away in (1, 2, 16, 31, 32, 64):
        assert abs((dropped[away:] * dropped[:-away]).mean() - p**2) < 2 * spread
    assert abs((dropped * other).mean() - p**2) < spread
    assert torch.unique(ops.dropout(ones, p, generator=seeded())).tolist() == [0.0, pytest.approx(1 / (1 - p))]


def test_seeds_come_from_pytorchs_generators() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = ops.dropout(x), ops.dropout(x)
    torch.manual_seed(3)
    assert torch.equal(ops.dropout(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(ops.dropout(x, generator=seeded()), ops.dropout(x, generator=seeded()))


def test_backward_draws_the_same_mask_and_keeps_the_seed_alone() -> None:
    x = torch.randn(50, 40, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        y = ops.dropout(x, 0.5)
    y.backward(torch.full_like(y, 3.0))
    assert kept == [8]
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 6.0))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_derivatives(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    for function, given in (
        (lambda x: ops.dropout(x, 0.3, generator=seeded()), (x,)),
        (lambda x, b: ops.bias_relu_dropout(x, b, 0.3, generator=seeded()), (x, bias)),
        (lambda x: ops.bias_relu_dropout(x, None, 0.3, generator=seeded()), (x,)),
    ):
        assert function(*given).stride() == x.stride()
        gradcheck(function, given)
        gradgradcheck(function, given)


def test_evaluation_and_the_ends() -> None:
    x = torch.randn(3, 4)
    bias = torch.randn(4)
    assert ops.dropout(x, 0.5, training=False) is x
    assert ops.dropout(x, 0.0) is x
    assert not ops.dropout(x, 1.0).any()
    for p, training in ((0.5, False), (0.0, True)):
        assert torch.equal(ops.bias_relu_dropout(x, bias, p, training), F.relu(x + bias))
    assert not ops.bias_relu_dropout(x, bias, 1.0).any()


def test_nan_passes_where_it_is_kept_and_gives_0_where_it_is_dropped() -> None:
    x = torch.full((64,), torch.nan)
    mask = ops.dropout(torch.ones(64), generator=seeded()) == 0
    for y in (ops.dropout(x, generator=seeded()), ops.bias_relu_dropout(x, generator=seeded())):
        assert torch.equal(y.isnan(), ~mask)
        assert not y[mask].any()


def test_functional_transforms_use_pytorchs_own() -> None:
    x = torch.ones(4, 1000)
    y = torch.func.vmap(lambda one: ops.bias_relu_dropout(one, None, 0.5), randomness="different")(x)
    assert y.unique().tolist() == [0.0, 2.0]


def test_the_compiler_takes_it_in_one_graph() -> None:
    torch.compiler.reset()
    x = torch.ones(3, 500, requires_grad=True)
    compiled = torch.compile(lambda x: ops.bias_relu_dropout(x, None, 0.5), fullgraph=True, backend="aot_eager")
    y = compiled(x)
    y.sum().backward()
    assert y.unique().tolist() == [0.0, 2.0]
    assert torch.equal(x.grad, y.detach())


def test_registrations_are_sound() -> None:
    x, bias = torch.randn(3, 4, 5), torch.randn(4)
    utils = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.switchgrad.dropout.default, (x, SEED, 0.5), test_utils=utils)
    torch.library.opcheck(torch.ops.switchgrad.bias_relu_dropout.default, (x, bias, SEED, 0.5, 1), test_utils=utils)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.dropout(torch.ones(3), 1.5), "p is 1.5; the probability"),
        (lambda: ops.dropout(torch.ones(3), math.nan), "p is nan; the probability"),
        (lambda: ops.dropout(torch.ones(3, dtype=torch.int32)), "dtype torch.int32; dropout takes"),
        (lambda: ops.bias_relu_dropout(torch.ones(3, 4), torch.ones(3)), r"the bias has shape \(3,\) and the input"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call: object, sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        call()
