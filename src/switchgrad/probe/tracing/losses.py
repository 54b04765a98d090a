"""What is to fall: the loss that a target asks for, and its rule in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.errors import ModelError

_CROSS_ENTROPY = (
    "p = softmax of the scores; the loss is −log p of the target class (mean over the batch of N).",
    "dscores = (p − 1 at the target, p elsewhere) / N: every share pushes its score down, the target's pulls it up.",
)
_SQUARED = ("the mean of (y − target)² over all n numbers.", "dy = 2 (y − target) / n.")
_OWN = ("your own loss.", "what PyTorch's tape sends back through it.")


@dataclass(frozen=True)
class Criterion:
    """A loss with its target, applied to an output."""

    name: str
    function: Callable[..., Tensor]
    target: Tensor | None
    forward: str
    backward: str

    def __call__(self, output: Any) -> Tensor:
        """The loss of ``output``."""
        return self.function(output) if self.target is None else self.function(output, self.target)


def criterion(loss: Callable[..., Tensor] | None, target: Tensor | int | None, output: Any) -> Criterion:
    """The loss that was given, or the one that the target's kind asks for. Raises `ModelError` where neither does."""
    goal = torch.tensor(target) if isinstance(target, int | float) else target
    if loss is not None:
        moved = goal.to(output.device) if goal is not None and isinstance(output, Tensor) else goal
        return Criterion(getattr(loss, "__name__", type(loss).__name__), loss, moved, *_OWN)
    if not isinstance(output, Tensor):
        raise ModelError(f"the model gives a {type(output).__name__}, not one tensor; give a loss that takes it")
    if goal is None:
        raise ModelError("there is no target; give a class number, a tensor like the output, or a loss of your own")
    goal = goal.to(output.device)
    if goal.is_floating_point():
        return _squared(goal, output)
    return _cross_entropy(goal, output)


def _squared(goal: Tensor, output: Tensor) -> Criterion:
    if goal.shape != output.shape:
        raise ModelError(
            f"the target has shape {list(goal.shape)} and the output {list(output.shape)}; give one like it"
        )
    return Criterion("mean squared error", functional.mse_loss, goal.to(output.dtype), *_SQUARED)


def _cross_entropy(goal: Tensor, output: Tensor) -> Criterion:
    if output.dim() < 2:
        raise ModelError(f"the output has shape {list(output.shape)}; classes want scores [N, classes]")
    wanted = (output.shape[0], *output.shape[2:])
    classes = goal.long().expand(wanted).contiguous() if goal.dim() == 0 else goal.long()
    if tuple(classes.shape) != wanted:
        raise ModelError(f"the target has shape {list(goal.shape)}; scores of {list(output.shape)} want {list(wanted)}")
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) < output.shape[1]:
        raise ModelError(
            f"the target is {goal.tolist()}, but the model tells {output.shape[1]} classes apart; give a number from 0 "
            f"to {output.shape[1] - 1}"
        )
    return Criterion("cross-entropy", functional.cross_entropy, classes, *_CROSS_ENTROPY)
