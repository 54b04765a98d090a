"""The learning rate as a function of the step: warm-up, then cosine, steps or a constant."""

from __future__ import annotations

import math
from bisect import bisect_right

from switchgrad.train.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step, counted from 0 over the whole run.

    Let ``T`` be all steps, ``W`` those of warm-up, ``t`` this one. While ``t < W`` the rate is ``lr (t + 1) / W``.
    After it: cosine ``lr (1 + cos(pi (t - W) / (T - W))) / 2``; step ``lr gamma^m``, ``m`` the milestones that lie
    behind; constant ``lr``. Nothing is remembered from step to step, so a resumed run needs no state of the schedule.

    >>> recipe = Recipe(epochs=2, lr=0.1, warmup_epochs=1, schedule="cosine")
    >>> [round(learning_rate(recipe, t, 4), 4) for t in range(8)]
    [0.025, 0.05, 0.075, 0.1, 0.1, 0.0854, 0.05, 0.0146]
    """
    total = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** bisect_right(recipe.milestones, step // steps_per_epoch)
    return recipe.lr
