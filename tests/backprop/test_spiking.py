"""Spiking units: their steps, their stand-in derivatives, and a network of them that learns digits."""

import math

import pytest
import torch

from switchgrad.backprop import SURROGATES, LeakyIntegrateAndFire, SpikingConvNet, spike
from switchgrad.errors import GeometryError, ModelError


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_a_step_forward_and_a_bell_backward(surrogate):
    v = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    y = spike(v, surrogate, slope=3.0)
    assert torch.equal(y, (v >= 0).double())
    (dv,) = torch.autograd.grad(y.sum(), v)
    wanted = {
        "fast-sigmoid": lambda u: 1 / (1 + 3 * abs(u)) ** 2,
        "arctan": lambda u: 1 / (1 + (math.pi / 2 * 3 * u) ** 2),
        "triangle": lambda u: max(0.0, 1 - 3 * abs(u)),
    }[surrogate]
    torch.testing.assert_close(dv, torch.tensor([wanted(u) for u in v.tolist()], dtype=torch.float64))


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_each_bell_is_the_slope_of_a_smooth_step(surrogate):
    """Its integral over all potentials is that of the smooth step: 2/slope, 2/slope and 1/slope."""
    v = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    area = torch.trapezoid(SURROGATES[surrogate](v, 5.0), v).item()
    assert area == pytest.approx(0.2 if surrogate == "triangle" else 0.4, rel=2e-3)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_leaky_integrate_and_fire_by_its_equations(reset):
    torch.manual_seed(0)
    x = torch.rand(12, 3, dtype=torch.float64)
    spikes = LeakyIntegrateAndFire(0.8, 1.1, reset)(x)
    for unit in range(3):
        u = 0.0
        for t in range(12):
            u = 0.8 * u + x[t, unit].item()
            fired = float(u >= 1.1)
            assert spikes[t, unit].item() == fired
            u = u - 1.1 * fired if reset == "subtract" else u * (1 - fired)
    assert 0 < spikes.sum() < 36


def test_the_gradient_goes_through_time_by_the_surrogate():
    x = torch.tensor([0.4, 0.5], dtype=torch.float64, requires_grad=True)
    layer = LeakyIntegrateAndFire(decay=0.5, threshold=1.0, surrogate="triangle", slope=1.0)
    (dx,) = torch.autograd.grad(layer(x)[1], x)
    bell = 1 - abs(0.5 * 0.4 + 0.5 - 1.0)
    torch.testing.assert_close(dx, torch.tensor([0.5 * bell, bell], dtype=torch.float64))


def test_a_learnt_decay_starts_where_it_is_told_and_gets_a_gradient():
    layer = LeakyIntegrateAndFire(decay=0.7, learn_decay=True)
    assert layer.decay.item() == pytest.approx(0.7)
    layer(torch.rand(5, 4)).sum().backward()
    assert layer.raw_decay.grad.item() != 0
    assert list(layer.state_dict()) == ["raw_decay"]


def test_a_small_spiking_network_learns_digits(digits):
    torch.manual_seed(0)
    net = SpikingConvNet(1, 10, (8, 8), maps=8, steps=4)
    seen = []
    net.spikes2.register_forward_hook(lambda *a: seen.append(a[2].detach().unique().tolist()))
    accuracy = digits.train(net, torch.optim.Adam(net.parameters(), 0.01), 150)
    assert accuracy > 0.9
    assert all(values == [0.0, 1.0] for values in seen)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spike(torch.zeros(1), "step"), "'fast-sigmoid'"),
        (lambda: spike(torch.zeros(1), slope=0.0), "slope is 0.0"),
        (lambda: LeakyIntegrateAndFire(decay=1.5), "decay is 1.5"),
        (lambda: LeakyIntegrateAndFire(decay=1.0, learn_decay=True), "decay is 1.0"),
        (lambda: LeakyIntegrateAndFire(threshold=0.0), "threshold is 0.0"),
        (lambda: LeakyIntegrateAndFire(reset="none"), "reset rule is 'none'"),
        (lambda: SpikingConvNet(1, 10, (3, 8)), "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(ModelError, match=words):
        call()


def test_a_sequence_needs_a_step():
    with pytest.raises(GeometryError, match="at least 1 step"):
        LeakyIntegrateAndFire()(torch.zeros(0, 3))
