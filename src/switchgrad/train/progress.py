"""What a run tells while it trains."""

from __future__ import annotations

from dataclasses import dataclass

from switchgrad.train.folder import RunFolder
from switchgrad.train.position import Position, Row
from switchgrad.train.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What is about to be trained: ``steps`` a epoch, ``pictures`` to train on, ``held_out`` to measure on."""

    folder: RunFolder
    recipe: Recipe
    parameters: int
    pictures: int
    held_out: int
    steps: int
    device: str
    threads: int


class Progress:
    """Told as a run goes on; every method does nothing until a subclass says otherwise.

    >>> class Print(Progress):
    ...     def epoch(self, row, best):
    ...         print(row.epoch, row.val_accuracy)
    """

    def reading(self, done: int, total: int, what: str) -> None:
        """Data are coming in: ``done`` of ``total`` bytes downloaded or pictures read, as ``what`` says."""

    def start(self, plan: Plan, position: Position) -> None:
        """Training begins, or goes on, from ``position``."""

    def note(self, sentence: str) -> None:
        """Something that the run decided, and why: steps that cannot be held by a CUDA graph."""

    def step(self, position: Position) -> None:
        """A step is done."""

    def epoch(self, row: Row, best: bool) -> None:
        """An epoch is done; ``best`` where no earlier one was better."""

    def finish(self, reason: str) -> None:
        """Training is over: "all epochs", "early stop" or "stopped"; the report comes next."""
