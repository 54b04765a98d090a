"""The training loop: forward, loss, backward, update; it takes any network and any tensors.

Each step draws its randomness (order, augmentation, dropout) from (seed, epoch, step) and its learning rate from the
step's number. So the weights after a step depend on the weights before it and on nothing else, and a run that was
stopped between two steps goes on, bit for bit, from `Position` and the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor, nn

from switchgrad.errors import RunError
from switchgrad.train.batches import Batches, seed_for, seed_globals
from switchgrad.train.evaluation import Evaluation
from switchgrad.train.graphs import Run
from switchgrad.train.position import Position, Row
from switchgrad.train.recipe import Recipe
from switchgrad.train.schedule import learning_rate
from switchgrad.train.step import Step


class Observer(Protocol):
    """What may look on, save, and stop a run by raising; it is called between steps, never within one."""

    def after_step(self, position: Position) -> None:
        """A step is done and counted."""

    def after_epoch(self, row: Row, best: bool) -> None:
        """An epoch is done and on record; ``best`` where no earlier one was better."""


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    validate: Callable[[nn.Module], Evaluation],
    recipe: Recipe,
    position: Position,
    observer: Observer,
    run: Run | None = None,
) -> None:
    """Train ``model`` in place from ``position`` until the recipe's last epoch, or until patience runs out.

    ``run`` makes a step of forward, loss, backward and update: `Step` by default, or one behind graphs.
    """
    steps, run = len(batches), run or Step(model, optimizer, recipe)
    while position.epoch < recipe.epochs and not out_of_patience(position, recipe):
        model.train()
        for step in range(position.step, steps):
            start = perf_counter()
            seed_globals(seed_for(recipe.seed, "dropout", position.epoch, step))
            x, y = batches.at(position.epoch, step)
            set_rate(optimizer, learning_rate(recipe, position.epoch * steps + step, steps))

            outcome = run(x, y)
            batches.ahead(position.epoch, step + 1)  # while a device that is not the CPU still works
            loss, correct = outcome.read()

            position.tally(finite(loss, position, recipe), correct, len(y))
            position.seconds += perf_counter() - start
            observer.after_step(position)

        start = perf_counter()
        validation = validate(model)
        row = Row(
            epoch=position.epoch + 1,
            lr=learning_rate(recipe, (position.epoch + 1) * steps - 1, steps),
            train_loss=position.train_loss,
            train_accuracy=position.train_accuracy,
            val_loss=validation.loss,
            val_accuracy=validation.accuracy,
            seconds=position.seconds + perf_counter() - start,
            samples_per_second=position.seen / position.seconds,
        )
        observer.after_epoch(row, position.close_epoch(row, recipe.monitor, recipe.min_delta))


def make_optimizer(model: nn.Module, recipe: Recipe, *, capturable: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters that learn; those with one axis get no weight decay.

    With ``capturable`` its learning rate lies with the parameters, where a graph that was recorded before reads it.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise RunError("the network has no parameter that requires a gradient, so there is nothing to train")
    groups = [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learning if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = torch.tensor(recipe.lr, device=learning[0].device) if capturable else recipe.lr
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=capturable)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of parameters the learning rate of this step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def out_of_patience(position: Position, recipe: Recipe) -> bool:
    """Whether early stopping is on and the monitored value has not moved for too long."""
    return 0 < recipe.patience <= position.waited


def finite(loss: float, position: Position, recipe: Recipe) -> float:
    """The loss; one that is infinite or NaN, which the step has kept from the weights, stops the run."""
    if not math.isfinite(loss):
        raise RunError(
            f"the loss became {loss} in epoch {position.epoch + 1}, step {position.step + 1}, so training stopped "
            f"with the last checkpoint intact; try a lower lr (it is {recipe.lr:g}), more warmup_epochs, "
            "or clip_grad_norm=1"
        )
    return loss
