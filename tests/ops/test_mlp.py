"""Chains of fully connected layers: what the operator declares itself to be, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import conform
from declarations.mlp import CASES, MLP, call
from harness.engines import engines, running
from switchgrad import backprop, ops
from switchgrad.errors import GeometryError
from wrong_mlp import MUTANTS, Chain

test_mlp = conform.tests(MLP)

WRITTEN_OUT = replace(
    MLP,
    function=Chain(),
    cases=CASES[1:3] + CASES[4:],
    large=(),
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


def in_steps(x: Tensor, weights: list[Tensor], biases: list[Tensor | None]) -> Tensor:
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = F.relu(F.linear(x, weight, bias))
    return F.linear(x, weights[-1], biases[-1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rows", [3, 19])
def test_what_is_not_finite_goes_where_the_sums_lead_it(value: float, rows: int) -> None:
    """Rows that fill a vector up hold nothing that others could meet."""
    x, w, v, grad = drawn((rows, 37), (21, 37), (5, 21), (rows, 5))
    x[1, 35] = value
    w[20, 3] = value
    tensors = [t.requires_grad_() for t in (x, w, v)]
    right = in_steps(x, [w, v], [None, None])
    wanted = [right, *torch.autograd.grad(right, tensors, grad)]
    for engine in engines(MLP):
        with running(engine):
            y = ops.mlp(x, [w, v])
            found = [y, *torch.autograd.grad(y, tensors, grad)]
        for got, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_a_relu_holds_back_as_pytorchs_does() -> None:
    """At 0, at -0 and at NaN: threshold_backward's rule."""
    hidden = torch.tensor([[0.0, -0.0, float("nan"), 2.0, -1.0]])
    grad, x, w = torch.ones(1, 5), torch.ones(1, 3), torch.ones(5, 3)
    passed = torch.ops.aten.threshold_backward(grad, hidden, 0)
    for engine in engines(MLP):
        with running(engine):
            found = torch.ops.switchgrad.mlp_backward(grad, x, [hidden], [w, torch.eye(5)], [True] * 5)
        assert torch.equal(found[0], passed @ w)
        assert torch.equal(found[1], passed.t() @ x)
        assert torch.equal(found[2], passed[0])


def test_rows_and_weights_may_lie_anywhere() -> None:
    x, w, v, b, grad = drawn((20, 33), (26, 33), (4, 26), (26,), (20, 4))
    wanted = in_steps(x, [w, v], [b, None])
    sparse = torch.zeros(20, 66)[:, ::2].copy_(x)
    turned = [t.t().contiguous().t() for t in (w, v)]
    for given in (x.t().contiguous().t(), sparse):
        torch.testing.assert_close(ops.mlp(given, turned, [b, None]), wanted, rtol=1e-5, atol=1e-5)
    values, hidden = torch.ops.switchgrad.mlp(x, [w, v], [b, None], True)
    one = torch.ones(()).expand(20, 4)
    for sent in (grad.t().contiguous().t(), one):
        found = torch.ops.switchgrad.mlp_backward(sent, sparse, [hidden], turned, [True] * 5)
        right = torch.ops.switchgrad.mlp_backward(sent.contiguous(), x, [hidden], [w, v], [True] * 5)
        assert all(map(torch.equal, found, right))
    assert values.shape == (20, 4)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 7), (0, 7), (2, 0, 7)])
def test_any_axes_before_the_inputs(shape: tuple[int, ...]) -> None:
    x, w, b, v = drawn(shape, (4, 7), (4,), (2, 4))
    torch.testing.assert_close(ops.mlp(x, [w, v], [b, None]), in_steps(x, [w, v], [b, None]))


PLANAR, LAST = torch.contiguous_format, torch.channels_last
PICTURES = ((5, 3, 4, 6), (20, 16, 3, 3), (0, 2, 3, 2), (3, 0, 2, 2), (2, 5, 1, 1))


@pytest.mark.parametrize(
    ("shape", "layout"), [((2, 3, 7), PLANAR), *((shape, layout) for shape in PICTURES for layout in (PLANAR, LAST))]
)
def test_maps_are_flattened_on_the_way(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x, w, v, grad = drawn(shape, (6, torch.Size(shape[1:]).numel()), (4, 6), (shape[0], 4))
    tensors = [t.requires_grad_() for t in (x.contiguous(memory_format=layout), w, v)]
    right = in_steps(tensors[0].flatten(1), [w, v], [None, None])
    wanted = torch.autograd.grad(right, tensors, grad)
    for engine in engines(MLP):
        with running(engine):
            y = ops.mlp(tensors[0], [w, v], flatten=True)
            found = torch.autograd.grad(y, tensors, grad, create_graph=True)
            torch.testing.assert_close([y, *found], [right, *wanted], rtol=1e-4, atol=1e-4)
            found = torch.autograd.grad(y, tensors, grad)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert found[0].numel() == 0 or found[0].is_contiguous(memory_format=layout)


def test_flattening_in_the_open_and_traced() -> None:
    x, w, v = drawn((3, 4, 2, 2), (5, 16), (2, 5))
    x = x.contiguous(memory_format=torch.channels_last)
    _, hidden = torch.ops.switchgrad.mlp(x, [w, v], [None, None], True)
    forward, backward = torch.ops.switchgrad.mlp.default, torch.ops.switchgrad.mlp_backward.default
    torch.library.opcheck(forward, (x, [w, v], [None, None], True))
    torch.library.opcheck(backward, (drawn((3, 2))[0], x, [hidden], [w, v], [True] * 5))
    with torch.autocast("cpu"):
        torch.testing.assert_close(ops.mlp(x, [w, v], flatten=True), in_steps(x.flatten(1), [w, v], [None, None]))


@pytest.mark.parametrize("rows", [0, 3, 33])
@pytest.mark.parametrize("widths", [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_layers_of_no_width(rows: int, widths: tuple[int, ...]) -> None:
    k, h, n = widths
    x, w, b, v, c, grad = drawn((rows, k), (h, k), (h,), (n, h), (n,), (rows, n))
    tensors = [t.requires_grad_() for t in (x, w, b, v, c)]
    ours, theirs = ops.mlp(x, [w, v], [b, c]), in_steps(x, [w, v], [b, c])
    torch.testing.assert_close(ours, theirs)
    found, wanted = (torch.autograd.grad(y, tensors, grad) for y in (ours, theirs))
    torch.testing.assert_close(found, wanted)


def test_only_what_is_wanted_is_made() -> None:
    x, w, b, v, u, grad = drawn((9, 6), (5, 6), (5,), (4, 5), (3, 4), (9, 3))
    _, *hidden = torch.ops.switchgrad.mlp(x, [w, v, u], [b, None, None], True)
    whole = torch.ops.switchgrad.mlp_backward(grad, x, hidden, [w, v, u], [True] * 7)
    for i in range(7):
        parts = torch.ops.switchgrad.mlp_backward(grad, x, hidden, [w, v, u], [i == j for j in range(7)])
        assert torch.equal(parts[i], whole[i])
        assert all(parts[j].numel() == 0 for j in range(7) if j != i)


def test_a_shared_weight_gets_both_gradients() -> None:
    x, w = drawn((6, 5), (5, 5))
    w.requires_grad_()
    found, wanted = (torch.autograd.grad(f(x, [w, w, w], [None] * 3).square().sum(), w)[0] for f in (ops.mlp, in_steps))
    torch.testing.assert_close(found, wanted)


def test_large_calls_and_single_layers_are_left_to_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = drawn((3, 4), (4, 4))
    monkeypatch.setattr(import_module("switchgrad.ops.mlp"), "_served", lambda *_: pytest.fail("by the kernels"))
    for rows, weights in ((x, [w]), (x.expand(400, 3, 4), [w, w]), (x.half(), [w.half()] * 2)):
        torch.testing.assert_close(ops.mlp(rows, weights), in_steps(rows, weights, [None] * len(weights)))
    wide = torch.zeros(1 << 19, 2)
    assert ops.mlp(torch.zeros(1, 2), [wide, torch.zeros(1, 1 << 19)]).shape == (1, 1)


@pytest.mark.parametrize(
    ("weights", "biases", "words"),
    [
        ([], None, "weights is empty; give the weight of one layer at least"),
        (drawn((2, 3), (2, 2)), [None], "there are 2 weights and 1 biases; give one bias for each weight"),
    ],
)
def test_layers_that_do_not_pair_are_refused(weights: list[Tensor], biases: Any, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        ops.mlp(torch.rand(2, 3), weights, biases)


def test_an_input_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(GeometryError, match="the input is 'rows', a str; give a tensor"):
        ops.mlp("rows", drawn((2, 3), (2, 2)))  # pyright: ignore


def test_pytorch_refuses_what_it_refuses_in_its_own_words() -> None:
    for shapes in (((2, 3), (4, 5), (2, 4)), ((2, 3), (4, 3), (2, 5))):
        x, *weights = drawn(*shapes)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            ops.mlp(x, weights)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda o, x: o.mlp(x, [], [], False), "has one layer at least"),
        (lambda o, x: o.mlp(x[0], [x], [None], False), "takes rows (M, K) or maps (M, C, H, W)"),
        (lambda o, x: o.mlp(x, [x, x], [None, None], False), "layer 2 gets 2 numbers a row"),
        (lambda o, x: o.mlp(x, [x.double()], [None], False), "the weight has dtype"),
        (lambda o, x: o.mlp(x, [x], [x[0]], False), "give one number for each of the 2 rows of its weight"),
        (lambda o, x: o.mlp(x, [x], [], False), "there are 1 layers and 0 biases"),
        (lambda o, x: o.mlp(x.int(), [x.int()], [None], False), "take float32 or float64"),
        (lambda o, x: o.mlp_backward(x, x, [], [x], [True] * 3), "it should have (2, 2)"),
        (lambda o, x: o.mlp_backward(x[:, :2], x, [], [x], [True]), "and 3 gradients; got 0 and 1"),
    ],
)
def test_the_kernels_refuse_in_a_sentence(refused: Any, words: str) -> None:
    with pytest.raises(RuntimeError) as error:
        refused(torch.ops.switchgrad, torch.rand(2, 3))
    assert words in str(error.value)


def test_explanations_reach_the_relus() -> None:
    x, w, v = drawn((3, 4), (5, 4), (2, 5))
    x.requires_grad_()
    found = []
    for way in (ops.mlp, in_steps):
        with backprop.routing(relu="guided"):
            y = way(x, [w, v], [None, None])
        found.append(torch.autograd.grad(y, x, torch.linspace(-1, 1, 6).reshape(3, 2))[0])
    torch.testing.assert_close(*found)


def test_parameters_in_a_row_are_layers() -> None:
    x, w, b, v = drawn((3, 4), (5, 4), (5,), (2, 5))
    torch.testing.assert_close(call(x, w, b, v), in_steps(x, [w, v], [b, None]))
