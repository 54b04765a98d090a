"""Only activations change: the objective is met, and the model comes back as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from switchgrad import backprop
from switchgrad.backprop import frozen, optimise_input
from switchgrad.errors import ModelError


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5)
    )
    net[0].bias.requires_grad_(False)
    net[1].eval()
    return net


def state(net):
    return (
        {name: value.clone() for name, value in net.state_dict().items()},
        [p.requires_grad for p in net.parameters()],
        [m.training for m in net.modules()],
        [p.grad for p in net.parameters()],
    )


def same(a, b):
    return a[1:] == b[1:] and all(torch.equal(value, b[0][name]) for name, value in a[0].items())


def test_a_score_rises_within_bounds_and_the_model_is_left_as_it_was():
    net = network()
    before = state(net)
    start = torch.full((1, 1, 8, 8), 0.5)
    with torch.no_grad():
        found = optimise_input(net, lambda y: y[0, 3], start, steps=30, maximize=True, bounds=(0, 1))
    assert len(found.history) == 31
    assert found.history[-1] > found.history[0] + 0.5
    assert found.input.min() >= 0
    assert found.input.max() <= 1
    assert not found.input.requires_grad
    assert start.unique().tolist() == [0.5]
    assert same(before, state(net))


def test_inversion_finds_an_input_with_the_wanted_activation():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh())
    wanted = net(torch.randn(1, 6)).detach()
    found = optimise_input(net, lambda y: functional.mse_loss(y, wanted), torch.zeros(1, 6), steps=400, lr=0.05)
    assert found.history[-1] < 1e-4 * found.history[0]
    torch.testing.assert_close(net(found.input), wanted, rtol=0, atol=1e-2)


def test_hidden_activations_are_the_input_of_the_tail():
    net = network().eval()
    start = torch.zeros(1, 4, 6, 6)
    found = optimise_input(net[2:], lambda y: y[0, 0], start, steps=5, maximize=True, optimiser=torch.optim.SGD)
    assert found.input.shape == start.shape
    assert found.history == sorted(found.history)


def test_routing_decides_how_the_gradient_comes_down():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    net[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    start = torch.tensor([[-1.0, 1.0]])
    plain = optimise_input(net, lambda y: y.sum(), start, 1, maximize=True, optimiser=torch.optim.SGD)
    with backprop.routing(relu="deconvnet"):
        other = optimise_input(net, lambda y: y.sum(), start, 1, maximize=True, optimiser=torch.optim.SGD)
    torch.testing.assert_close(plain.input, torch.tensor([[-1.0, 1.1]]))
    torch.testing.assert_close(other.input, torch.tensor([[-0.9, 1.1]]))


def test_everything_is_restored_after_an_exception():
    net = network()
    before = state(net)
    with frozen(net):
        assert not any(p.requires_grad for p in net.parameters())
        assert not any(m.training for m in net.modules())
    assert same(before, state(net))
    with pytest.raises(ZeroDivisionError), frozen(net):
        1 / 0  # noqa: B018
    assert same(before, state(net))
    with pytest.raises(ZeroDivisionError):
        optimise_input(net, lambda y: y.sum() / (1 // 0), torch.zeros(1, 1, 8, 8))
    assert same(before, state(net))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net, x: optimise_input(net, lambda y: y, x), "one number"),
        (lambda net, x: optimise_input(net, lambda y: y.detach().sum(), x), "does not depend"),
        (lambda net, x: optimise_input(net, lambda y: y.sum(), x, steps=-1), "steps is -1"),
        (lambda net, x: optimise_input(net, lambda y: y.sum(), x.long()), "floating-point"),
    ],
)
def test_what_cannot_be_optimised_is_refused(call, words):
    with pytest.raises(ModelError, match=words):
        call(network(), torch.zeros(1, 1, 8, 8))
