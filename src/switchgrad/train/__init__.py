"""Training: a recipe, a loop that fits on a screen, exact evaluation, checkpoints that resume bit for bit.

    run = switchgrad.train.fit("digits", "lenet5", epochs=20)
    run.accuracy, run.folder, run.predict(images)

Names are found when they are first used, so that reading a recipe or a run does not load matplotlib, which only the
report needs. No module here may bear the name of a function above: importing it would hide the function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switchgrad.train.evaluation import ClassScore, Evaluation, Mistake, evaluate
    from switchgrad.train.fitting import fit, resume
    from switchgrad.train.in_backward import UpdatesInBackward, update_in_backward
    from switchgrad.train.interrupt import Interrupted
    from switchgrad.train.position import Position, Row
    from switchgrad.train.progress import Plan, Progress
    from switchgrad.train.recipe import Recipe
    from switchgrad.train.run import Run
    from switchgrad.train.schedule import learning_rate

_HOMES = {
    "ClassScore": "evaluation",
    "Evaluation": "evaluation",
    "Interrupted": "interrupt",
    "Mistake": "evaluation",
    "Plan": "progress",
    "Position": "position",
    "Progress": "progress",
    "Recipe": "recipe",
    "Row": "position",
    "Run": "run",
    "UpdatesInBackward": "in_backward",
    "evaluate": "evaluation",
    "fit": "fitting",
    "learning_rate": "schedule",
    "resume": "fitting",
    "update_in_backward": "in_backward",
}

__all__ = [
    "ClassScore",
    "Evaluation",
    "Interrupted",
    "Mistake",
    "Plan",
    "Position",
    "Progress",
    "Recipe",
    "Row",
    "Run",
    "UpdatesInBackward",
    "evaluate",
    "fit",
    "learning_rate",
    "resume",
    "update_in_backward",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'switchgrad.train' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"switchgrad.train.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
