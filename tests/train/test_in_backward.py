"""Updating in backward is the same training, with no gradient left afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from switchgrad.errors import RunError
from switchgrad.train import update_in_backward

OPTIMIZERS = {
    "sgd fused": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, amsgrad=True),
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=0.01),
    "asgd": lambda groups: torch.optim.ASGD(groups, lr=0.01),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


def made(how):
    model = network()
    wide = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": wide, "weight_decay": 0.01}, {"params": rest, "lr": 0.003}]
    return model, OPTIMIZERS[how](groups)


def train(model, optimizer, steps, scheduler=None, first=0):
    for step in range(first, first + steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        model(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return [p.detach().clone() for p in model.parameters()]


def same(first, second):
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("how", OPTIMIZERS)
def test_same_training(how):
    """With groups of their own settings, and a schedule that changes them."""
    trained = []
    for inside in (False, True):
        model, optimizer = made(how)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12, cycle_momentum=False)
        if inside:
            update_in_backward(optimizer)
        trained.append(train(model, optimizer, 5, scheduler))
    same(*trained)


def test_gradients_are_gone_after_backward_and_one_at_a_time():
    model, optimizer = made("sgd fused")
    alive = []
    for parameter in model.parameters():
        parameter.register_hook(lambda _: alive.append(sum(p.grad is not None for p in model.parameters())))
    update_in_backward(optimizer)
    model(torch.randn(8, 6)).sum().backward()
    assert alive == [0] * 8
    assert all(p.grad is None for p in model.parameters())


def test_state_goes_both_ways():
    """Train in steps, save, load, go on in backward, save, load, go on in steps: as if nothing had happened."""
    model, optimizer = made("adamw")
    wanted = train(model, optimizer, 6)
    model, optimizer = made("adamw")
    train(model, optimizer, 2)
    weights, state = model.state_dict(), optimizer.state_dict()
    model, optimizer = made("adamw")
    handle = update_in_backward(optimizer)  # loading comes after, and replaces groups and state
    model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    train(model, optimizer, 2, first=2)
    state = optimizer.state_dict()
    assert len(state["param_groups"]) == 2
    assert len(state["state"]) == 8
    handle.remove()
    optimizer.load_state_dict(state)
    same(train(model, optimizer, 2, first=4), wanted)


def test_removed():
    model, optimizer = made("sgd fused")
    with update_in_backward(optimizer) as handle:
        model(torch.randn(8, 6)).sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.randn(8, 6)).sum().backward()
    same(before, list(model.parameters()))
    assert all(p.grad is not None for p in model.parameters())
    handle.remove()


def test_a_weight_used_twice_is_updated_once():
    trained = []
    for inside in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        calls = []
        optimizer.register_step_pre_hook(lambda *_, calls=calls: calls.append(1))
        if inside:
            update_in_backward(optimizer)
        layer(layer(torch.ones(2, 4))).square().sum().backward()
        optimizer.step()
        trained.append(list(layer.parameters()))
        assert len(calls) == (3 if inside else 1)
    same(*trained)


def test_parameters_of_later():
    """What was frozen, or comes in a group of its own afterwards, is updated by the step as ever."""
    trained = []
    for inside in (False, True):
        model = network()
        model[0].weight.requires_grad_(False)
        optimizer = torch.optim.SGD(list(model[:4].parameters()), lr=0.1)
        if inside:
            update_in_backward(optimizer)
        model[0].weight.requires_grad_(True)
        optimizer.add_param_group({"params": model[4].parameters(), "lr": 0.2})
        trained.append(train(model, optimizer, 2))
    same(*trained)


def test_refusals():
    class Counts(torch.optim.SGD):
        """Keeps the number of its steps in its groups, as some optimisers do."""

        def step(self, closure=None):
            for group in self.param_groups:
                group["steps"] = group.get("steps", 0) + 1
            return super().step(closure)

    layer = nn.Linear(2, 2)
    with pytest.raises(RunError, match=r"takes a torch\.optim\.Optimizer, and this is a Linear"):
        update_in_backward(layer)
    with pytest.raises(RunError, match="LBFGS needs all gradients"):
        update_in_backward(torch.optim.LBFGS(layer.parameters()))
    optimizer = Counts(layer.parameters(), lr=0.1)
    update_in_backward(optimizer)
    with pytest.raises(RunError, match="Counts counts its steps for all parameters together"):
        layer(torch.ones(1, 2)).sum().backward()
    assert len(optimizer.param_groups[0]["params"]) == 2
