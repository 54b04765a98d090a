"""Recurrent cells and learning through time: against autograd, finite differences, torch.nn, and each other."""

import pytest
import torch
from torch import nn

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn import IndRNN as IndRNNLayer
from switchgrad.nn import Jordan as JordanLayer
from switchgrad.reference.recurrent import BPTT, GRU, LSTM, RTRL, Elman, IndRNN, Jordan, TruncatedBPTT

EXACT = {"rtol": 1e-12, "atol": 1e-12}
IN, H, OUT = 3, 2, 2
CELLS = {
    "elman": (Elman(), H, [(H, IN), (H, H), (H,)]),
    "jordan": (Jordan(), OUT, [(H, IN), (H, OUT), (H,), (OUT, H), (OUT,)]),
    "lstm": (LSTM(), 2 * H, [(4 * H, IN), (4 * H, H), (4 * H,)]),
    "gru": (GRU(), H, [(3 * H, IN), (3 * H, H), (3 * H,), (3 * H,)]),
    "indrnn": (IndRNN(), H, [(H, IN), (H,), (H,)]),
}


def drawn(name, *x_shape):
    """The cell, an input, a state and weights."""
    torch.manual_seed(sum(map(ord, name)))
    cell, states, shapes = CELLS[name]
    arguments = [torch.randn(s, dtype=torch.float64) for s in ((*x_shape, 2, IN), (2, states), *shapes)]
    return cell, arguments


def watched(arguments):
    return [a.clone().requires_grad_() for a in arguments]


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_autograds_gradients_and_no_tape_of_its_own(name):
    cell, arguments = drawn(name)
    s, kept = cell.forward(*arguments)
    delta = torch.randn_like(s)
    leaves = watched(arguments)
    wanted = torch.autograd.grad(cell.forward(*leaves)[0], leaves, delta)
    torch.testing.assert_close(cell.backward(delta, kept), wanted, **EXACT)
    assert not s.requires_grad
    assert torch.equal(cell.output(s), s[:, :H] if name == "lstm" else s)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_against_finite_differences(name):
    cell, arguments = drawn(name)
    s, kept = cell.forward(*arguments)
    delta = torch.randn_like(s)
    for index, gradient in enumerate(cell.backward(delta, kept)):
        direction = torch.randn_like(gradient)
        moved = [
            cell.forward(*(a + sign * 1e-6 * direction if i == index else a for i, a in enumerate(arguments)))[0]
            for sign in (1, -1)
        ]
        slope = ((moved[0] - moved[1]) * delta).sum() / 2e-6
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", CELLS)
def test_bptt_has_autograds_gradients(name):
    cell, arguments = drawn(name, 5)
    s, kept = BPTT(cell).forward(*arguments)
    delta = torch.randn_like(s)
    leaves = watched(arguments)
    wanted = torch.autograd.grad(BPTT(cell).forward(*leaves)[0], leaves, delta)
    torch.testing.assert_close(BPTT(cell).backward(delta, kept), wanted, **EXACT)


def layers():
    """A module of PyTorch's or ours, and its weights in the reference's order."""
    f64 = {"dtype": torch.float64}
    rnn, lstm, gru = nn.RNN(IN, H, **f64), nn.LSTM(IN, H, **f64), nn.GRU(IN, H, **f64)
    for net in (rnn, lstm):
        yield (net, [net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0 + net.bias_hh_l0])
    yield gru, [gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0]
    jordan, indrnn = JordanLayer(IN, H, OUT, **f64), IndRNNLayer(IN, H, **f64)
    cell = jordan.cells[0]
    yield jordan, [cell.weight_ih, cell.weight_sh, cell.bias_h, cell.weight_ho, cell.bias_o]
    yield indrnn, [indrnn.cells[0].weight_ih, indrnn.cells[0].weight_hh, indrnn.cells[0].bias]


@pytest.mark.parametrize(("name", "index"), [("elman", 0), ("lstm", 1), ("gru", 2), ("jordan", 3), ("indrnn", 4)])
def test_a_sequence_agrees_with_the_layer(name, index):
    torch.manual_seed(0)
    net, weights = list(layers())[index]
    cell, (x, s0, *_) = drawn(name, 6)
    leaf = x.clone().requires_grad_()
    first = tuple(half[None].contiguous() for half in s0.chunk(2, 1)) if name == "lstm" else s0[None]
    output, last = net(leaf, first)
    s, kept = BPTT(cell).forward(x, s0, *(w.detach() for w in weights))
    torch.testing.assert_close(torch.stack([cell.output(state) for state in s]), output, **EXACT)
    torch.testing.assert_close(s[-1], torch.cat([t[0] for t in last], 1) if name == "lstm" else last[0], **EXACT)
    g = torch.randn_like(output)
    delta = torch.cat([g, torch.zeros_like(g)], 2) if name == "lstm" else g
    dx, _, *dweights = BPTT(cell).backward(delta, kept)
    wanted = torch.autograd.grad(output, [leaf, *weights], g, allow_unused=True)
    torch.testing.assert_close(dx, wanted[0], **EXACT)
    for got, gradient in zip(dweights, wanted[1:], strict=True):
        if gradient is not None:  # a sum of two biases is nobody's leaf
            torch.testing.assert_close(got, gradient, **EXACT)
    if name in ("elman", "lstm"):
        (bias,) = torch.autograd.grad(net(x, first)[0], net.bias_ih_l0, g)
        torch.testing.assert_close(dweights[-1], bias, **EXACT)


def truncated_by_autograd(cell, arguments, delta, back, every):
    """Each run as a graph of its own, whose first state is a constant unless it is the sequence's."""
    x, s0, *weights = leaves = watched(arguments)
    with torch.no_grad():
        states = [s0, *BPTT(cell).forward(x, s0, *weights)[0]]
    total = [torch.zeros_like(a) for a in leaves]
    for begin in range(0, len(x), every):
        end = min(begin + every, len(x))
        first = max(end - back, 0)
        s, _ = BPTT(cell).forward(x[first:end], s0 if first == 0 else states[first], *weights)
        found = torch.autograd.grad(s[begin - first :], leaves, delta[begin:end], allow_unused=True)
        total = [a if b is None else a + b for a, b in zip(total, found, strict=True)]
    return tuple(total)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("back", "every"), [(1, 1), (3, 1), (3, 3), (4, 2), (7, 7), (9, 2)])
def test_truncated_bptt_stops_where_it_says(name, back, every):
    cell, arguments = drawn(name, 7)
    if name == "indrnn":  # all units alive, so that errors can go all the way back
        arguments = [a.abs() for a in arguments]
    layer = TruncatedBPTT(cell, back, every)
    s, kept = layer.forward(*arguments)
    delta = torch.randn_like(s)
    got = layer.backward(delta, kept)
    torch.testing.assert_close(got, truncated_by_autograd(cell, arguments, delta, back, every), **EXACT)
    full = BPTT(cell).backward(delta, kept)
    same = all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(got, full, strict=True))
    assert same == (back >= 7)


@pytest.mark.parametrize("name", CELLS)
def test_rtrl_equals_bptt_to_rounding(name):
    cell, (x, s, *weights) = drawn(name, 5)
    states, kept = BPTT(cell).forward(x, s, *weights)
    delta = torch.randn_like(states)
    rtrl = RTRL(cell)
    P, total = rtrl.start(s, *weights), [torch.zeros_like(w) for w in weights]
    for t in range(5):
        s, P = rtrl.step(x[t], s, P, *weights)
        total = [a + b for a, b in zip(total, rtrl.gradients(delta[t], P), strict=True)]
        assert torch.equal(s, states[t])
    torch.testing.assert_close(total, list(BPTT(cell).backward(delta, kept)[2:]), **EXACT)


def test_rtrl_learns_as_it_goes():
    """An Elman cell learns to hand on what it saw one step before, updated at every step."""
    torch.manual_seed(0)
    cell, rtrl = Elman(), RTRL(Elman())
    weights = [0.5 * torch.randn(shape, dtype=torch.float64) for shape in ((4, 1), (4, 4), (4,))]
    s, seen, losses = torch.zeros(1, 4, dtype=torch.float64), 0.0, []
    P = rtrl.start(s, *weights)
    for _ in range(1500):
        value = torch.randint(2, (1,)).item() * 1.2 - 0.6
        s, P = rtrl.step(torch.full((1, 1), value, dtype=torch.float64), s, P, *weights)
        delta = torch.zeros_like(s)
        delta[0, 0] = s[0, 0] - seen
        losses.append(0.5 * delta[0, 0].item() ** 2)
        weights = [w - 0.1 * g for w, g in zip(weights, rtrl.gradients(delta, P), strict=True)]
        seen = value
    assert cell.output(s) is s
    assert sum(losses[-200:]) < 0.1 * sum(losses[:200])


def test_an_error_lasts_where_the_recurrence_is_one_and_vanishes_where_tanh_saturates():
    steps = 200
    x, one = torch.zeros(steps, 1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    delta = torch.zeros_like(x)
    delta[-1] = 1
    independent = BPTT(IndRNN())
    _, kept = independent.forward(x, one, one, one[0], 0 * one[0])
    assert independent.backward(delta, kept)[1].item() == 1.0
    plain = BPTT(Elman())
    _, kept = plain.forward(x, one, one, 0.9 * one, 0 * one[0])
    assert 0 < plain.backward(delta, kept)[1].item() < 1e-8
    memory = BPTT(LSTM())
    open_gate = torch.tensor([-50.0, 50.0, 0.0, 0.0], dtype=torch.float64)  # write nothing, forget nothing
    zero = torch.zeros(4, 1, dtype=torch.float64)
    _, kept = memory.forward(x, torch.tensor([[0.0, 0.7]], dtype=torch.float64), zero, zero, open_gate)
    error = torch.zeros(steps, 1, 2, dtype=torch.float64)
    error[-1, 0, 1] = 1
    assert memory.backward(error, kept)[1][0, 1].item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", CELLS)
def test_shapes_that_do_not_fit_are_refused(name):
    cell, (x, s, *weights) = drawn(name)
    with pytest.raises(GeometryError, match="the input of a recurrent cell"):
        cell.forward(x[:, :2], s, *weights)
    with pytest.raises(GeometryError, match="its state"):
        cell.forward(x, s[:, :1], *weights)
    with pytest.raises(GeometryError, match="a sequence"):
        BPTT(cell).forward(x, s, *weights)


@pytest.mark.parametrize(("back", "every"), [(0, 1), (2, 3), (2, 0)])
def test_truncation_that_loses_errors_is_refused(back, every):
    with pytest.raises(ModelError, match="1 <= every <= back"):
        TruncatedBPTT(Elman(), back, every)
