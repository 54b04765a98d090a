"""One training step: forward, loss, backward, update. It asks the device nothing, so that a CUDA graph can hold it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from switchgrad.ops import cross_entropy_with_gradient
from switchgrad.train.evaluation import check_scores
from switchgrad.train.recipe import Recipe


class Outcome(NamedTuple):
    """What a step found, still on the device: the mean loss before its update, and how many pictures were right."""

    loss: Tensor
    correct: Tensor

    def read(self) -> tuple[float, int]:
        """Both as numbers of Python; waits until the device has them."""
        return self.loss.item(), int(self.correct.item())


Guard: TypeAlias = Callable[[torch.optim.Optimizer, Tensor], bool]


def look_first(optimizer: torch.optim.Optimizer, loss: Tensor) -> bool:
    """Whether to go on to backward and update: looks at the loss, which the CPU has at hand."""
    del optimizer
    return math.isfinite(loss.item())


def hold_back(optimizer: torch.optim.Optimizer, loss: Tensor) -> bool:
    """Go on always, but have the optimiser skip its update where the loss is not finite: nobody waits for the device.

    Fused optimisers read this mark, which gradient scalers give them too, where they update.
    """
    optimizer.found_inf = (loss - loss != 0).float()  # pyright: ignore[reportAttributeAccessIssue]
    return True


class Step:
    """Trains ``model`` on one batch at each call.

    ``optimizer`` comes from `loop.make_optimizer` and has its learning rate already. A loss that is infinite or NaN
    leaves weights and the optimiser's state as they were; ``guard`` says how.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, guard: Guard = look_first
    ) -> None:
        """Remember what to train and how; nothing runs yet."""
        self.model, self.optimizer, self.recipe, self.guard = model, optimizer, recipe, guard

    def __call__(self, x: Tensor, y: Tensor) -> Outcome:
        """One step on input ``x`` ``[N, ...]`` and classes ``y`` ``[N]``."""
        scores = check_scores(self.model(x), y)  # forward
        loss, gradient = cross_entropy_with_gradient(scores, y, label_smoothing=self.recipe.label_smoothing)
        if self.guard(self.optimizer, loss):
            self.optimizer.zero_grad()
            torch.autograd.backward(scores, gradient)  # backward
            if self.recipe.clip_grad_norm:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad_norm)
            self.optimizer.step()  # update
        return Outcome(loss, (scores.argmax(1) == y).sum())
