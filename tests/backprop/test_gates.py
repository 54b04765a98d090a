"""Gates: identity forward, and backward exactly what they say."""

import pytest
import torch
from torch import nn

from switchgrad import backprop
from switchgrad.errors import ModelError


def test_stop_gradient_is_a_constant():
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    y = x * backprop.stop_gradient(x.exp())
    assert torch.equal(y, x * x.exp())
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, x.exp())


def test_reversed_gradient_and_its_layer():
    x, g = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    y = backprop.reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    assert torch.equal(torch.autograd.grad(y, x, g)[0], -0.25 * g)
    layer = backprop.GradientReversal(2.0)
    assert torch.equal(torch.autograd.grad(layer(x), x, g)[0], -2 * g)
    assert layer.state_dict() == {}


def test_reversal_turns_every_second_derivative_too():
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(backprop.reverse_gradient(x).pow(3).sum(), x, create_graph=True)
    assert torch.equal(first, -3 * x**2)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second.abs(), 6 * x.abs())


def test_ganin_features_forget_the_domain():
    """The label is a noisy number, the domain a clean one that often agrees with it: only reversal drops the domain."""
    torch.manual_seed(0)
    labels = torch.randint(2, (300,))
    domains = torch.where(torch.rand(300) < 0.8, labels, 1 - labels)
    x = torch.stack([labels * 2.0 - 1 + torch.randn(300), domains * 2.0 - 1], 1)

    def reliance_on_the_domain(strength):
        torch.manual_seed(1)
        features, task, domain = nn.Linear(2, 1), nn.Linear(1, 2), nn.Linear(1, 2)
        rule = torch.optim.Adam([*features.parameters(), *task.parameters(), *domain.parameters()], lr=0.1)
        for _ in range(60):
            shared = features(x)
            scores = domain(backprop.reverse_gradient(shared, strength))
            loss = nn.functional.cross_entropy(task(shared), labels) + nn.functional.cross_entropy(scores, domains)
            rule.zero_grad()
            loss.backward()
            rule.step()
        of_label, of_domain = features.weight.detach()[0].tolist()
        return abs(of_domain / of_label)

    assert reliance_on_the_domain(1.0) < 0.5 * reliance_on_the_domain(0.0)


def test_the_schedule():
    assert backprop.reversal_strength(0) == 0
    assert backprop.reversal_strength(1) > 0.999
    with pytest.raises(ModelError, match="share of training"):
        backprop.reversal_strength(1.1)


def test_the_value_of_one_and_the_gradient_of_the_other():
    value, path = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    y = backprop.with_gradient_of(value, path.sin())
    assert torch.equal(y, value)
    y.sum().backward()
    assert torch.equal(path.grad, path.cos())
    assert value.grad is None


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_what_cannot_be_is_refused(strength):
    with pytest.raises(ModelError, match="strength"):
        backprop.reverse_gradient(torch.zeros(2), strength)
    with pytest.raises(ModelError, match="one shape"):
        backprop.with_gradient_of(torch.zeros(2), torch.zeros(3))
