"""Chains of fully connected layers run as one call, wherever they stand in a model."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switchgrad import optimize
from switchgrad.errors import FusionWarning
from switchgrad.fusion import report


def network(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    parts = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


class Functional(nn.Module):
    """A weight that two layers share, and a bias that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(F.linear(self.a(x).relu_(), self.a.weight))
        return self.b(x)


def runs(model: nn.Module) -> list[str]:
    return [row.runs for row in report(model).fused]


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(model(x).square().sum(), [p for p in model.parameters() if p.requires_grad]))


@pytest.mark.parametrize("model", [network(5, 7, 3), network(6, 5, 4, 3, 2), Functional()])
def test_a_chain_is_one_call(model: nn.Module) -> None:
    fast, x = optimize(model), torch.rand(4, next(model.parameters()).shape[1])
    assert runs(fast) == ["ops.mlp"]
    for net in (fast.train(), fast.eval()):
        torch.testing.assert_close(net(x), model(x))
    torch.testing.assert_close(gradients(fast, x), gradients(model, x))
    assert fast.state_dict().keys() == model.state_dict().keys()


def test_a_chain_longer_than_the_longest_is_cut() -> None:
    model = network(*[4] * 13)
    fast, x = optimize(model), torch.rand(3, 4)
    assert runs(fast) == ["ops.mlp", "ops.mlp"]
    torch.testing.assert_close(gradients(fast, x), gradients(model, x))


def test_frozen_layers_and_autocast_and_copies() -> None:
    model = network(5, 7, 6, 3)
    model[0].requires_grad_(False)
    fast, x = copy.deepcopy(optimize(model)), torch.rand(4, 5)
    torch.testing.assert_close(gradients(fast, x), gradients(model, x))
    with torch.autocast("cpu"):
        assert runs(fast) == ["linear and relu, while autocast is on"]
        assert fast(x).dtype == model(x).dtype == torch.bfloat16
        torch.testing.assert_close(fast(x), model(x))


def test_a_hook_within_the_chain_sees_its_layer() -> None:
    model = network(5, 7, 6, 3)
    fast, x, seen = optimize(model), torch.rand(4, 5), []
    wanted, inside = model(x), model[:3](x)
    fast[2].register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    torch.testing.assert_close(fast(x), wanted)
    torch.testing.assert_close(seen, [inside])


def test_a_replaced_layer_is_run() -> None:
    model = network(5, 7, 3)
    fast, x = optimize(model), torch.rand(4, 5)
    fast[2] = nn.Linear(7, 2)
    with pytest.warns(FusionWarning, match="a sub-module was replaced"):
        assert fast(x).shape == (4, 2)


def test_chains_that_stay_as_written() -> None:
    leaky = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.1), nn.Linear(4, 4))
    wide = nn.Sequential(nn.Linear(4, 1 << 18), nn.ReLU(), nn.Linear(1 << 18, 4)).requires_grad_(False)
    half = network(4, 4, 4).half()
    for model in (leaky, wide, half):
        assert "ops.mlp" not in runs(optimize(model))


def test_a_second_derivative_is_the_originals() -> None:
    model = network(5, 7, 3)
    x = torch.rand(4, 5, requires_grad=True)
    found = []
    for net in (model, optimize(model)):
        (slope,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), [x, *net.parameters()], allow_unused=True))
    torch.testing.assert_close(*found)
