"""Fully connected layers: what the operators declare themselves to be, and which way is chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import conform
from declarations.fully_connected import LINEAR, LINEAR_RELU
from harness.engines import engines, running
from switchgrad import backprop, nn, ops
from switchgrad.errors import GeometryError
from switchgrad.kernels.schema import REFERENCES
from switchgrad.ops.fully_connected.choice import is_streamed
from wrong_linear import MUTANTS, Layer

test_linear = conform.tests(LINEAR)
test_linear_relu = conform.tests(LINEAR_RELU, traced=False)

WRITTEN_OUT = replace(
    LINEAR_RELU,
    function=Layer(),
    cases=LINEAR_RELU.cases[:3] + LINEAR_RELU.cases[5:8],
    dtypes=(torch.float32,),
    gradient_dtypes=(torch.float32,),
    native=False,
    autocasts=False,
    mutants=tuple(MUTANTS),
)
test_mutant = conform.mutant_tests(WRITTEN_OUT)


def drawn(*shapes: tuple[int, ...], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "output"), [(5, 37, 20), (9, 37, 20), (9, 150, 12)])
def test_what_is_not_finite_goes_where_the_sums_lead_it(
    value: float, relu: bool, rows: int, inputs: int, output: int
) -> None:
    x, w, grad = drawn((rows, inputs), (21, inputs), (rows, 21))
    x[4, 35] = value
    w[output, 3] = value
    x.requires_grad_()
    w.requires_grad_()
    right = F.linear(x, w)
    right = F.relu(right) if relu else right
    for engine in engines(LINEAR):
        with running(engine):
            y = (ops.linear_relu if relu else ops.linear)(x, w, algorithm="streamed")
            found = [y, *torch.autograd.grad(y, (x, w), grad)]
        wanted = [right, *torch.autograd.grad(right, (x, w), grad, retain_graph=True)]
        for got, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_a_relu_holds_back_as_pytorchs_does() -> None:
    """At 0, at -0 and at NaN: threshold_backward's rule."""
    output = torch.tensor([[0.0, -0.0, float("nan"), 2.0, -1.0]])
    grad, x, w = torch.full((1, 5), 7.0), torch.ones(1, 3), torch.eye(5, 3)
    wanted = torch.ops.aten.threshold_backward(grad, output, 0)
    assert wanted.tolist() == [[0.0, 0.0, 7.0, 7.0, 0.0]]
    found = [REFERENCES["linear_backward"](grad, output, x, w, True, True, True)]
    for engine in engines(LINEAR):
        with running(engine):
            found.append(torch.ops.switchgrad.linear_backward(grad, output, x, w, True, True, True))
    for dx, dw, db in found:
        assert torch.equal(dx, wanted @ w)
        assert torch.equal(dw, wanted.t() @ x)
        assert torch.equal(db, wanted[0])


def test_long_sums_err_no_more_than_pytorchs() -> None:
    x, w = drawn((16, 5000), (40, 5000))
    truth = x.double() @ w.double().t()
    theirs = (F.linear(x, w) - truth).square().mean()
    for engine in engines(LINEAR):
        with running(engine):
            ours = (ops.linear(x, w, algorithm="streamed") - truth).square().mean()
        assert 0 < ours < 2 * theirs, engine


def test_rows_may_lie_anywhere() -> None:
    """Transposed, every second number, expanded: inputs, weights and gradients."""
    x, w, b, grad = drawn((20, 33), (26, 33), (26,), (20, 26))
    wanted = F.linear(x, w, b)
    sparse = torch.zeros(20, 66)[:, ::2].copy_(x)
    for given in (x.t().contiguous().t(), sparse):
        torch.testing.assert_close(ops.linear(given, w, b, algorithm="streamed"), wanted, rtol=1e-5, atol=1e-5)
        _, dw, _ = torch.ops.switchgrad.linear_backward(grad, None, given, w, False, True, False)
        torch.testing.assert_close(dw, grad.t() @ x, rtol=1e-5, atol=1e-5)
    turned = w.t().contiguous().t()
    torch.testing.assert_close(ops.linear(x, turned, b, algorithm="streamed"), wanted, rtol=1e-5, atol=1e-5)
    for sent in (grad.t().contiguous().t(), torch.ones(()).expand(20, 26)):
        dx, dw, db = torch.ops.switchgrad.linear_backward(sent, None, x, turned, True, True, True)
        torch.testing.assert_close(dx, sent @ w, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(dw, sent.t() @ x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(db, sent.sum(0), rtol=1e-5, atol=1e-5)


def test_large_gradients_go_past_the_caches() -> None:
    """Of 8 MiB and more, by other instructions where rows are whole vectors."""
    grad, x, w = drawn((2, 1030), (2, 2080), (1030, 2080))
    for engine in engines(LINEAR):
        with running(engine):
            _, dw, _ = torch.ops.switchgrad.linear_backward(grad, None, x, w, False, True, False)
        torch.testing.assert_close(dw, grad.t() @ x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 7), (0, 7), (2, 0, 7)])
def test_any_axes_before_the_inputs(shape: tuple[int, ...]) -> None:
    x, w, b = drawn(shape, (4, 7), (4,))
    for call, theirs in ((ops.linear, F.linear), (ops.linear_relu, lambda *t: F.relu(F.linear(*t)))):
        torch.testing.assert_close(call(x, w, b, algorithm="streamed"), theirs(x, w, b))


def test_no_inputs_and_no_outputs() -> None:
    for m, k, n in ((3, 0, 4), (3, 4, 0), (0, 0, 0)):
        x, w, b, grad = drawn((m, k), (n, k), (n,), (m, n))
        tensors = [t.requires_grad_() for t in (x, w, b)]
        y = ops.linear(*tensors, algorithm="streamed")
        torch.testing.assert_close(y, F.linear(*tensors))
        found, wanted = (torch.autograd.grad(v, tensors, grad) for v in (y, F.linear(*tensors)))
        torch.testing.assert_close(found, wanted)


def test_the_choice_follows_the_sizes() -> None:
    large, medium, small = (torch.empty(n, n, device="meta") for n in (4096, 400, 200))
    for rows, *taken in ((1, True, False), (16, True, True), (100, True, False), (4096, False, False)):
        assert [is_streamed(rows, weight, "auto") for weight in (large, medium)] == taken, rows
        assert not is_streamed(rows, small, "auto"), "a small weight stays in the caches"
    assert not is_streamed(16, torch.empty(10, 25088, device="meta"), "auto"), "packing the batch is most of the work"
    assert is_streamed(4096, small, "streamed")
    assert not is_streamed(16, large, "direct")


@pytest.mark.parametrize(
    ("tensors", "arguments", "words"),
    [
        (drawn((2, 3), (4, 3)), {"algorithm": "fast"}, "algorithm is 'fast'; give one of auto, direct, streamed"),
        (
            [t.half() for t in drawn((2, 3), (4, 3))],
            {"algorithm": "streamed"},
            'algorithm is "streamed", and the kernels take float32 or float64',
        ),
    ],
)
def test_an_algorithm_that_cannot_serve_says_why(tensors: list[Tensor], arguments: Any, words: str) -> None:
    with pytest.raises(GeometryError) as error:
        ops.linear(*tensors, **arguments)
    assert words in str(error.value)


def test_pytorch_refuses_what_it_refuses_in_its_own_words() -> None:
    for x, w, b in (((2, 3), (4, 5), (4,)), ((2, 3), (4, 3), (5,))):
        with pytest.raises(RuntimeError):
            ops.linear(*drawn(x, w, b), algorithm="streamed")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda o, x: o.linear(x, x[:, :2], None, False), "takes rows (M, K) and a weight (N, K)"),
        (lambda o, x: o.linear(x, x.double(), None, False), "the weight has dtype"),
        (lambda o, x: o.linear(x, x, x[0], False), "give one number for each of the 2 rows of the weight"),
        (lambda o, x: o.linear(x.int(), x.int(), None, False), "take float32 or float64"),
        (lambda o, x: o.linear_backward(x, None, x, x, True, True, True), "is not what this layer gives"),
    ],
)
def test_the_kernels_refuse_in_a_sentence(call: Any, words: str) -> None:
    with pytest.raises(RuntimeError) as error:
        call(torch.ops.switchgrad, torch.rand(2, 3))
    assert words in str(error.value)


def test_gradients_may_be_asked_for_one_by_one() -> None:
    grad, x, w = drawn((5, 6), (5, 9), (6, 9))
    whole = torch.ops.switchgrad.linear_backward(grad, None, x, w, True, True, True)
    for i in range(3):
        parts = torch.ops.switchgrad.linear_backward(grad, None, x, w, *(i == j for j in range(3)))
        assert torch.equal(parts[i], whole[i])
        assert all(parts[j].numel() == 0 for j in range(3) if j != i)


def test_explanations_reach_the_relu() -> None:
    x, w = drawn((3, 4), (5, 4))
    x.requires_grad_()
    found = []
    for call in (lambda: ops.linear_relu(x, w, algorithm="streamed"), lambda: F.relu(F.linear(x, w))):
        with backprop.routing(relu="guided"):
            y = call()
        found.append(torch.autograd.grad(y, x, torch.linspace(-1, 1, 15).reshape(3, 5))[0])
    torch.testing.assert_close(*found)


def test_layers_hold_the_operators() -> None:
    torch.manual_seed(0)
    layer, behind = nn.Linear(7, 5, algorithm="streamed"), nn.LinearReLU(7, 5, bias=False)
    x = torch.rand(3, 7)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(behind(x), F.relu(F.linear(x, behind.weight)))
    assert repr(layer) == "Linear(in_features=7, out_features=5, bias=True, algorithm='streamed')"
    theirs = torch.nn.Linear(7, 5)
    theirs.load_state_dict(layer.state_dict())
    with pytest.raises(GeometryError, match="give one of auto, direct, streamed"):
        nn.Linear(7, 5, algorithm="fast")
