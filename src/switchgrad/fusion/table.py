"""The milliseconds that tuning measured, as a table: every candidate, the slower ones too."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from switchgrad.fusion.timings import Layout, timings_of


@dataclass(frozen=True)
class Candidate:
    """One way to run a piece of a model, or the whole of a module (an empty ``piece``), and what it took.

    ``layout`` is the one that the maps were brought to, empty where they stayed as they came; ``operator`` is empty
    for what the model wrote.
    """

    module: str
    mode: str
    layout: Layout
    piece: str
    operator: str
    ms: float


@dataclass(frozen=True)
class Measured:
    """The rows of `measured`; printing it gives a table."""

    rows: tuple[Candidate, ...]

    def __str__(self) -> str:
        lines = [_cells(row) for row in self.rows]
        heads = ("module", "mode", "maps", "piece", "by", "ms")
        wide = [max(len(line[i]) for line in (heads, *lines)) for i in range(len(heads))]
        padded = (
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, wide, strict=True)) for line in (heads, *lines)
        )
        return "\n".join(line.rstrip() for line in padded)


def _cells(row: Candidate) -> tuple[str, ...]:
    layout = row.layout.replace("_", " ") or "as they come"
    operator = row.operator or ("as written" if row.piece else "the fastest pieces")
    return row.module, row.mode, layout, row.piece or "the whole", operator, f"{row.ms:.3g}"


def measured(model: nn.Module) -> Measured:
    """What ``optimize(model, example_input, tune=True)`` measured for its result; no rows for any other model.

    >>> print(measured(nn.ReLU()))
    module  mode  maps  piece  by  ms
    """
    rows: list[Candidate] = []
    for path, module in model.named_modules():
        timings = timings_of(module)
        if timings is None:
            continue
        name = path or type(module).__name__
        for (training, layout, piece, operator), ms in timings.chains.items():
            rows.append(Candidate(name, _mode(training), layout, piece, operator, ms))
        rows += [
            Candidate(name, _mode(training), layout, "", "", ms) for (training, layout), ms in timings.whole.items()
        ]
    return Measured(tuple(rows))


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"
