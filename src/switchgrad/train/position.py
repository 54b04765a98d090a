"""Where a run stands, apart from its weights: what a checkpoint says in words and numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from switchgrad.errors import RunError


@dataclass(frozen=True)
class Row:
    """One epoch of a run, a line of ``metrics.csv``; losses in nats a picture, rates between 0 and 1.

    ``epoch`` counts from 1. ``lr`` is the rate of the epoch's last step. ``train_loss`` and ``train_accuracy`` are
    means over the epoch while the weights change, on augmented pictures and with label smoothing; ``val_loss`` is the
    plain cross-entropy. ``seconds`` spans training and evaluation, ``samples_per_second`` training alone.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    samples_per_second: float


@dataclass
class Position:
    """Epochs done, the running sums of the epoch under way, the best epoch so far, and one `Row` for each done.

    ``step`` steps of epoch ``epoch`` (both from 0) are done. ``loss_sum`` adds, in float64, loss times pictures.
    ``reference`` is the monitored value that early stopping compares with, ``waited`` the epochs since it moved.
    """

    epoch: int = 0
    step: int = 0
    seen: int = 0
    correct: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_epoch: int = 0
    reference: float | None = None
    waited: int = 0
    history: list[Row] = field(default_factory=list["Row"])

    @property
    def train_loss(self) -> float:
        """Mean loss over the pictures seen in this epoch; NaN before the first."""
        return self.loss_sum / self.seen if self.seen else math.nan

    @property
    def train_accuracy(self) -> float:
        """Share of them that the network had right; NaN before the first."""
        return self.correct / self.seen if self.seen else math.nan

    def tally(self, loss: float, correct: int, count: int) -> None:
        """Count one step: the mean loss of ``count`` pictures, of which ``correct`` were right."""
        self.step += 1
        self.seen += count
        self.correct += correct
        self.loss_sum += loss * count

    def close_epoch(self, row: Row, monitor: str, min_delta: float) -> bool:
        """Put ``row`` on record and begin the next epoch; say whether this one is the best so far.

        The best epoch has the highest ``val_accuracy`` (the lower ``val_loss`` where two are equal) or the lowest
        ``val_loss``; of two equal epochs the earlier stays. Early stopping waits for a change of at least
        ``min_delta`` in the monitored value alone.
        """
        improved = not self.best_epoch or _merit(row, monitor) > _merit(self.history[self.best_epoch - 1], monitor)
        value = _merit(row, monitor)[0]
        moved = self.reference is None or (value > self.reference and value - self.reference >= min_delta)
        self.reference, self.waited = (value, 0) if moved else (self.reference, self.waited + 1)
        self.history.append(row)
        self.best_epoch = row.epoch if improved else self.best_epoch
        self.epoch, self.step, self.seen, self.correct = row.epoch, 0, 0, 0
        self.loss_sum = self.seconds = 0.0
        return improved

    def to_fields(self) -> dict[str, Any]:
        """Names and values that JSON can hold; every float survives the round trip exactly."""
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Position:
        """The position that `to_fields` wrote; `RunError` where a name, a type or a count does not fit."""
        try:
            history = [Row(**_typed(Row, row)) for row in fields["history"]]
            position = cls(**_typed(cls, {k: v for k, v in fields.items() if k != "history"}), history=history)
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(f"the position in the checkpoint cannot be read: {error}") from error
        if [row.epoch for row in history] != list(range(1, position.epoch + 1)) or position.best_epoch > position.epoch:
            raise RunError(f"the checkpoint says that {position.epoch} epochs are done, but records {len(history)}")
        if bool(history) != bool(position.best_epoch) or min(position.step, position.seen, position.waited) < 0:
            raise RunError("the counters in the checkpoint contradict each other")
        return position


def _merit(row: Row, monitor: str) -> tuple[float, ...]:
    return (-row.val_loss,) if monitor == "val_loss" else (row.val_accuracy, -row.val_loss)


def _typed(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` where each has the type that the dataclass names, so that damage shows here and not epochs later."""
    allowed = {"int": int, "float": (int, float), "float | None": (int, float, type(None))}
    annotations = cast("dict[str, str]", cls.__annotations__)
    for name, value in fields.items():
        wanted = annotations.get(name)
        if wanted not in allowed:
            raise KeyError(f"unknown field {name}")
        if not isinstance(value, allowed[wanted]) or isinstance(value, bool):
            raise TypeError(f"{name} should be {wanted}, not {value!r}")
    return dict(fields)
