"""What a check of gradients found: entries, tensors, layers, a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from switchgrad.models.summarise.table import aligned, by

Judgement = Literal["right", "kink", "jump", "wrong"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One derivative: where, what autograd says, what differences say, and how they compare.

    ``error`` is the difference, relative to the larger of the two (and to no less than what rounding and the size of
    the tensor's other gradients make of nothing). ``left`` and ``right`` are the one-sided differences. A ``kink`` is a
    place where these two differ however small the step, with autograd's number between them; at a ``jump`` the function
    itself is broken off, so that there is no derivative. ``index`` is empty for a direction through the whole tensor.
    """

    index: tuple[int, ...]
    autograd: float
    numeric: float
    left: float
    right: float
    error: float
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class TensorCheck:
    """A parameter or an input: its entries and directions, the worst first."""

    name: str
    shape: tuple[int, ...]
    entries: tuple[Entry, ...]
    directions: tuple[Entry, ...]
    complete: bool

    @property
    def worst(self) -> Entry:
        """Wrong before jump before kink before right; then by error."""
        order = ("right", "kink", "jump", "wrong")
        return max((*self.entries, *self.directions), key=lambda entry: (order.index(entry.judgement), entry.error))

    @property
    def verdict(self) -> Judgement:
        """The gravest judgement of all entries and directions."""
        return self.worst.judgement

    def count(self, judgement: Judgement) -> int:
        """Entries so judged."""
        return sum(entry.judgement == judgement for entry in self.entries)


@dataclass(frozen=True, slots=True)
class LayerFault:
    """A layer whose own backward is wrong, checked alone on the inputs that it had: name, type, and the worst entry."""

    layer: str
    type: str
    tensor: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class GradientReport:
    """The verdict on a module: a check for each parameter and floating-point input, and the layers at fault.

    ``str`` of it is a table; ``ok`` says that nothing is wrong (kinks are no fault). ``skipped`` names tensors that the
    output does not depend on, or that need no gradient.
    """

    model: str
    tensors: tuple[TensorCheck, ...]
    faults: tuple[LayerFault, ...]
    skipped: tuple[str, ...]
    tolerance: float
    evaluations: int

    @property
    def ok(self) -> bool:
        """Whether no gradient is wrong."""
        return all(check.verdict != "wrong" for check in self.tensors)

    @property
    def worst(self) -> Entry:
        """The worst entry of all."""
        return max(self.tensors, key=lambda check: (check.verdict == "wrong", check.worst.error)).worst

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and a row for each tensor."""
        head = ("tensor", "shape", "checked", "kinks", "wrong", "worst", "autograd", "numeric", "error", "verdict")
        return head, [_row(check) for check in self.tensors]

    def worst_entries(self, count: int) -> list[tuple[str, Entry]]:
        """The entries with the largest errors, wrong ones first, and the tensor of each."""
        found = [(check.name, entry) for check in self.tensors for entry in check.entries]
        found.sort(key=lambda pair: (pair[1].judgement != "wrong", -pair[1].error))
        return found[:count]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        kinks = sum(check.count("kink") + check.count("jump") for check in self.tensors)
        apart = f"; {kinks} entries lie on a kink, where any one-sided derivative is right" if kinks else ""
        if self.ok:
            return f"right: every gradient agrees with differences to {self.tolerance:g}{apart}"
        names = [check.name for check in self.tensors if check.verdict == "wrong"]
        return f"wrong: the gradients of {', '.join(names)} differ from the differences{apart}"

    def __str__(self) -> str:
        """A table of plain text, the verdict, and the layers at fault."""
        head, rows = self.rows()
        lines = [
            f"{self.model}: gradients against differences, in float64",
            "",
            *aligned([head, *rows], frozenset({0, 1})),
        ]
        lines += ["", self.sentence, *self.blame()]
        return "\n".join(lines)

    def blame(self) -> list[str]:
        """A line for each layer whose own backward is wrong."""
        if self.ok:
            return []
        lines = [
            f'layer "{fault.layer}" ({fault.type}): its own backward is wrong at {fault.tensor}'
            f"{list(fault.entry.index)}: autograd {fault.entry.autograd:.6g}, differences {fault.entry.numeric:.6g}"
            for fault in self.faults
        ]
        return lines or [
            "no layer is wrong by itself, so look at functions called between layers, and at detach() and .data"
        ]


def _row(check: TensorCheck) -> tuple[str, ...]:
    worst = check.worst
    place = str(list(worst.index)) if worst.index or not check.shape else "a direction"
    return (
        check.name,
        by(check.shape) or "one number",
        "all" if check.complete else f"{len(check.entries)} + {len(check.directions)} directions",
        str(check.count("kink") + check.count("jump")) if check.count("kink") + check.count("jump") else "-",
        str(check.count("wrong")) if check.verdict == "wrong" else "-",
        place,
        f"{worst.autograd:.6g}",
        f"{worst.numeric:.6g}",
        f"{worst.error:.1e}",
        "right, but for kinks" if check.verdict in ("kink", "jump") else check.verdict,
    )
