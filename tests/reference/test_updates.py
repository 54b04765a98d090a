"""The update rules against PyTorch's optimisers, step by step, and wrong ones that must not pass for them."""

from __future__ import annotations

import pytest
import torch

from harness.written_out import close, seeded
from switchgrad.reference import SGD, Adam, Momentum, Nesterov, WeightDecay

STEPS = 12
optim = torch.optim
# Name: our rule, and PyTorch's optimiser for the same.
RULES = {
    "sgd": (SGD(0.1), lambda p: optim.SGD(p, 0.1)),
    "momentum": (Momentum(0.1, 0.8), lambda p: optim.SGD(p, 0.1, 0.8)),
    "nesterov": (Nesterov(0.1, 0.8), lambda p: optim.SGD(p, 0.1, 0.8, nesterov=True)),
    "adam": (Adam(0.1, 0.8, 0.95, 1e-3), lambda p: optim.Adam(p, 0.1, (0.8, 0.95), 1e-3)),
    "decay": (WeightDecay(SGD(0.1), l2=0.2), lambda p: optim.SGD(p, 0.1, weight_decay=0.2)),
    "decay, momentum": (WeightDecay(Momentum(0.1), l2=0.2), lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.2)),
    "decay, adam": (WeightDecay(Adam(0.1), l2=0.2), lambda p: optim.Adam(p, 0.1, weight_decay=0.2)),
}


def gradient(step, theta):
    """A gradient that depends on theta, with a part of its own for each step."""
    return theta.sin() + torch.randn(theta.shape, generator=seeded("step", step), dtype=theta.dtype)


def start():
    return torch.randn(3, 4, generator=seeded("theta"), dtype=torch.float64)


def ours(rule):
    """theta after each step."""
    theta, memory, path = start(), rule.start(start()), []
    for step in range(STEPS):
        theta, memory = rule.step(theta, gradient(step, theta), memory)
        path.append(theta)
    return torch.stack(path)


def pytorchs(make):
    parameter = torch.nn.Parameter(start())
    optimiser, path = make([parameter]), []
    for step in range(STEPS):
        parameter.grad = gradient(step, parameter.detach())
        optimiser.step()
        path.append(parameter.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("name", RULES)
def test_rule(name):
    rule, make = RULES[name]
    close(ours(rule), pytorchs(make), name)


def test_l1_pulls_every_weight_towards_0_by_the_same():
    theta = torch.tensor([2.0, -3.0, 0.0])
    rule = WeightDecay(SGD(0.5), l1=0.5)
    assert rule.step(theta, torch.zeros(3), rule.start(theta))[0].tolist() == [1.75, -2.75, 0]


@pytest.mark.parametrize("name", RULES)
def test_nothing_given_is_changed(name):
    rule, theta, slope = RULES[name][0], start(), start().cos()
    memory = rule.start(theta)
    rule.step(theta, slope, rule.step(theta, slope, memory)[1])
    assert torch.equal(theta, start())
    assert torch.equal(slope, start().cos())
    assert all((m == 0).all() for m in (memory if isinstance(memory, tuple) else [memory]) if torch.is_tensor(m))


class Uphill(SGD):
    def step(self, theta, gradient, memory):
        return super().step(theta, -gradient, memory)


class Forgets(Momentum):
    def step(self, theta, gradient, memory):
        return super().step(theta, gradient, torch.zeros_like(memory))


class Dampens(Momentum):
    def step(self, theta, gradient, memory):
        return super().step(theta, (1 - self.mu) * gradient, memory)


class DoesNotLookAhead(Nesterov):
    def step(self, theta, gradient, memory):
        return Momentum(self.alpha, self.mu).step(theta, gradient, memory)


class StartsBiased(Adam):
    def step(self, theta, gradient, memory):
        m, v, _ = memory
        return super().step(theta, gradient, (m, v, 10**6))


class StepIsNotCounted(Adam):
    def step(self, theta, gradient, memory):
        theta, (m, v, _) = super().step(theta, gradient, memory)
        return theta, (m, v, 0)


class Grows(WeightDecay):
    def step(self, theta, gradient, memory):
        return self.rule.step(theta, gradient - self.l2 * theta, memory)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (Uphill(0.1), "sgd"),
        (Forgets(0.1, 0.8), "momentum"),
        (Dampens(0.1, 0.8), "momentum"),
        (DoesNotLookAhead(0.1, 0.8), "nesterov"),
        (StartsBiased(0.1, 0.8, 0.95, 1e-3), "adam"),
        (StepIsNotCounted(0.1, 0.8, 0.95, 1e-3), "adam"),
        (Grows(SGD(0.1), l2=0.2), "decay"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_wrong_rule_is_seen(rule, name):
    with pytest.raises(AssertionError, match="off by"):
        close(ours(rule), pytorchs(RULES[name][1]), name)
