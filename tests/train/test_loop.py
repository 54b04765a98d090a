"""The loop against the same mathematics written out with plain tensors; clipping, decay, stopping, spoilt losses."""

import math

import pytest
import torch
from torch import nn

from switchgrad.errors import RunError
from switchgrad.train import Position, Recipe, evaluate
from switchgrad.train.batches import Batches
from switchgrad.train.loop import make_optimizer, train

IMAGES = torch.randn(22, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(22) % 2


class Watch:
    def __init__(self):
        self.rows, self.best, self.steps = [], [], []

    def after_step(self, position):
        self.steps.append((position.epoch, position.step))

    def after_epoch(self, row, best):
        self.rows.append(row)
        self.best.append(best)


def linear():
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.copy_(torch.arange(6.0).view(2, 3) / 10)
        net.bias.copy_(torch.tensor([0.1, -0.1]))
    return net


def run(net, recipe, images=IMAGES, labels=LABELS, position=None):
    watch, position = Watch(), position or Position()
    batches = Batches(images, labels, recipe.batch_size, recipe.seed)
    train(
        net,
        make_optimizer(net, recipe),
        batches,
        lambda model: evaluate(model, images, labels, num_classes=2),
        recipe,
        position,
        watch,
    )
    return watch, batches


def by_hand(recipe, batches):
    """SGD with Nesterov momentum in float64, its gradient of the smoothed cross-entropy written out."""
    weight, bias = (
        torch.arange(6.0, dtype=torch.float64).view(2, 3) / 10,
        torch.tensor([0.1, -0.1], dtype=torch.float64),
    )
    speed_w, speed_b, first = torch.zeros_like(weight), torch.zeros_like(bias), True
    total = recipe.epochs * len(batches)
    losses, correct = [], []
    for epoch in range(recipe.epochs):
        loss_sum = right = 0.0
        for step in range(len(batches)):
            x, y = batches.at(epoch, step)
            x = x.double()
            scores = x @ weight.T + bias
            p = torch.exp(scores) / torch.exp(scores).sum(1, keepdim=True)
            target = torch.full_like(p, recipe.label_smoothing / 2)
            target[torch.arange(len(y)), y] += 1 - recipe.label_smoothing
            loss_sum += -(target * p.log()).sum().item()
            right += (scores.argmax(1) == y).sum().item()
            grad_scores = (p - target) / len(y)
            grad_w, grad_b = grad_scores.T @ x, grad_scores.sum(0)
            if recipe.clip_grad_norm:
                norm = math.sqrt((grad_w**2).sum() + (grad_b**2).sum())
                factor = min(1.0, recipe.clip_grad_norm / (norm + 1e-6))
                grad_w, grad_b = grad_w * factor, grad_b * factor
            grad_w = grad_w + recipe.weight_decay * weight  # and none on the bias
            speed_w = grad_w if first else recipe.momentum * speed_w + grad_w
            speed_b = grad_b if first else recipe.momentum * speed_b + grad_b
            first = False
            rate = recipe.lr * (1 + math.cos(math.pi * (epoch * len(batches) + step) / total)) / 2
            weight = weight - rate * (grad_w + recipe.momentum * speed_w)
            bias = bias - rate * (grad_b + recipe.momentum * speed_b)
        losses.append(loss_sum / len(LABELS))
        correct.append(right / len(LABELS))
    return weight, bias, losses, correct


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_the_loop_is_the_mathematics(clip):
    recipe = Recipe(
        epochs=3, batch_size=5, lr=0.5, weight_decay=0.1, warmup_epochs=0, label_smoothing=0.2, clip_grad_norm=clip
    )
    net = linear()
    watch, batches = run(net, recipe)
    weight, bias, losses, correct = by_hand(recipe, batches)
    assert torch.allclose(net.weight.double(), weight, atol=1e-6)
    assert torch.allclose(net.bias.double(), bias, atol=1e-6)
    assert [row.train_loss for row in watch.rows] == pytest.approx(losses, abs=1e-6)
    assert [row.train_accuracy for row in watch.rows] == correct
    assert watch.steps == [(epoch, step) for epoch in range(3) for step in range(1, 6)]


def test_adamw_follows_its_paper():
    recipe = Recipe(
        epochs=2,
        batch_size=22,
        optimizer="adamw",
        lr=0.1,
        weight_decay=0.3,
        schedule="constant",
        warmup_epochs=0,
        label_smoothing=0,
    )
    net = linear()
    run(net, recipe)
    weight, bias = (
        torch.arange(6.0, dtype=torch.float64).view(2, 3) / 10,
        torch.tensor([0.1, -0.1], dtype=torch.float64),
    )
    moments = [[torch.zeros_like(t), torch.zeros_like(t)] for t in (weight, bias)]
    for t in (1, 2):
        scores = IMAGES.double() @ weight.T + bias
        p = scores.softmax(1)
        p[torch.arange(22), LABELS] -= 1
        grads = ((p.T @ IMAGES.double()) / 22, p.sum(0) / 22)
        updated = []
        for value, grad, moment, decay in zip((weight, bias), grads, moments, (0.3, 0.0), strict=True):
            moment[0] = 0.9 * moment[0] + 0.1 * grad
            moment[1] = 0.999 * moment[1] + 0.001 * grad**2
            step = (moment[0] / (1 - 0.9**t)) / ((moment[1] / (1 - 0.999**t)).sqrt() + 1e-8)
            updated.append(value * (1 - 0.1 * decay) - 0.1 * step)
        weight, bias = updated
    assert torch.allclose(net.weight.double(), weight, atol=1e-6)
    assert torch.allclose(net.bias.double(), bias, atol=1e-6)


def test_weight_decay_spares_what_has_one_axis():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    optimizer = make_optimizer(net, Recipe(weight_decay=0.01))
    decay = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {name: decay[p] for name, p in net.named_parameters()} == {
        "0.weight": 0.01, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "3.weight": 0.01, "3.bias": 0.0,
    }  # fmt: skip


def test_frozen_parameters_stay():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    before = [p.clone() for p in net[0].parameters()]
    run(net, Recipe(epochs=1, batch_size=5))
    assert all(torch.equal(a, b) for a, b in zip(before, net[0].parameters(), strict=True))
    with pytest.raises(RunError, match="nothing to train"):
        make_optimizer(net.requires_grad_(False), Recipe())


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    net = linear()
    before = net.weight.clone()
    with pytest.raises(RunError) as caught:
        run(net, Recipe(epochs=1, batch_size=22), images=IMAGES * math.inf)
    assert torch.equal(net.weight, before)
    assert str(caught.value) == (
        "the loss became nan in epoch 1, step 1, so training stopped with the last checkpoint intact; try a lower lr "
        "(it is 0.05), more warmup_epochs, or clip_grad_norm=1"
    )


def test_early_stopping_stops_after_patience_and_not_before():
    recipe = Recipe(epochs=50, batch_size=22, lr=1e-9, patience=3, warmup_epochs=0)
    watch, _ = run(linear(), recipe)
    assert len(watch.rows) == 4  # one that sets the mark, three without improvement
    assert watch.best[0]
    watch, _ = run(linear(), recipe.replace(patience=0, epochs=6))
    assert len(watch.rows) == 6


def test_dropout_is_drawn_from_seed_epoch_and_step():
    def mask(seed, disturb):
        net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
        with torch.no_grad():
            net[0].weight.copy_(linear().weight)
            net[0].bias.copy_(linear().bias)
        torch.manual_seed(disturb)
        run(net, Recipe(epochs=2, batch_size=5, seed=seed))
        return net[0].weight.detach()

    assert torch.equal(mask(0, disturb=1), mask(0, disturb=2))
    assert not torch.equal(mask(0, disturb=1), mask(1, disturb=1))


def test_the_rows_carry_the_rate_of_the_last_step():
    watch, _ = run(linear(), Recipe(epochs=2, batch_size=11, lr=1.0, warmup_epochs=0, schedule="step", milestones=(1,)))
    assert [row.lr for row in watch.rows] == [1.0, 0.1]
