"""What runs fused in a model, what does not, and why: a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from switchgrad.fusion.chains import Block, Rest
from switchgrad.fusion.executing import Compiled
from switchgrad.fusion.planning import Plan, is_layer, plan
from switchgrad.fusion.stages import Stage, has_hooks


@dataclass(frozen=True)
class Row:
    """One chain of operations: what they are, in which mode this holds, what runs, and why not better.

    ``mode`` is "training", "evaluation" or "both"; ``runs`` is the fused operator, or empty where the chain runs as it
    was written, and then ``reason`` says why. Where somebody tuned, ``timing`` is what was measured.
    """

    operations: tuple[str, ...]
    mode: str
    runs: str
    reason: str
    timing: str = ""


@dataclass(frozen=True)
class Report:
    """The rows of `report`; printing it gives a table."""

    rows: tuple[Row, ...]

    @property
    def fused(self) -> tuple[Row, ...]:
        """What runs fused."""
        return tuple(row for row in self.rows if row.runs)

    @property
    def left(self) -> tuple[Row, ...]:
        """What runs as it was written."""
        return tuple(row for row in self.rows if not row.runs)

    def __str__(self) -> str:
        lines = [(" + ".join(row.operations), row.mode, _outcome(row)) for row in self.rows]
        heads = ("operations", "mode", "runs")
        wide = [max(len(line[i]) for line in (heads, *lines)) for i in range(2)]
        table = [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c}" for a, b, c in (heads, *lines)]
        return "\n".join([*table, f"{len(self.fused)} fused, {len(self.left)} as written"])


def _outcome(row: Row) -> str:
    what = row.runs or f"as written: {row.reason}"
    return f"{what} ({row.timing})" if row.timing else what


def report(model: nn.Module) -> Report:
    """What of ``model`` runs fused once it is optimized, and why the rest does not; see `optimize`.

    It reads the model as it is now: with the hooks that it has now, for instance, and for autocast if it is called
    within it. ``model`` may be optimized already or not; nothing is changed.

    >>> print(report(nn.Sequential(nn.Conv1d(8, 8, 3), nn.MaxPool1d(2), nn.Dropout())))
    operations  mode      runs
    0           both      as written: no fused operator for conv1d here
    1           both      ops.max_pool1d
    2           training  ops.dropout
    2 fused, 1 as written
    """
    rows: list[Row] = []
    _describe(model, "", plan(model), rows, set())
    return Report(tuple(rows))


def _describe(
    module: nn.Module, path: str, plans: dict[nn.Module, Plan], rows: list[Row], covered: set[nn.Module]
) -> None:
    """Rows of what ``module`` runs itself, then of the modules that it calls and does not read through."""
    found = plans.get(module)
    if found is not None and module not in covered:
        if path and has_hooks(module) and not is_layer(module):
            rows.append(Row((path,), "both", "", "it has hooks, so nothing fuses across its border"))
        if found.reason:
            rows.append(Row((path or type(module).__name__,), "both", "", f"{found.reason}; its parts are read alone"))
        rows += _rows(found, path)
        covered.update(m for reading in found.readings for m in reading.read_through)
        covered.update(s.module for c in found.compiled.values() for s in _stages(c) if s.module is not None)
    for name, child in module.named_children():
        _describe(child, f"{path}.{name}" if path else name, plans, rows, covered)


def _stages(compiled: Compiled) -> Iterator[Stage]:
    for chain in (*compiled.blocks, *compiled.rests):
        yield from chain.stages


def _rows(found: Plan, path: str) -> list[Row]:
    """The rows of a program in the order of its graph; one where training and evaluation do the same."""
    by_mode = {mode: _lines(compiled, path) for mode, compiled in found.compiled.items()}
    training, evaluation = by_mode.get(True, {}), by_mode.get(False, {})
    both = [line for line in training if line in evaluation]
    rows = [(training[line], Row(line[0], "both", *line[1:])) for line in both]
    for word, lines in (("training", training), ("evaluation", evaluation)):
        rows += [(at, Row(line[0], word, *line[1:])) for line, at in lines.items() if line not in both]
    return [row for _, row in sorted(rows, key=lambda placed: placed[0])]


def _lines(compiled: Compiled, path: str) -> dict[tuple[tuple[str, ...], str, str, str], int]:
    """Operations, what runs, why not, what was measured: each with its place in the graph."""
    order = {node: place for place, node in enumerate(compiled.reading.graph.nodes)}
    lines = {
        (_names(block, path), block.runs, "", compiled.timing(block)): order[block.stages[0].node]
        for block in compiled.blocks
    }
    rests = {(_names(rest, path), "", rest.reason, ""): order[rest.stages[0].node] for rest in compiled.rests}
    return {**_layout_line(compiled, path), **lines, **rests}


def _layout_line(compiled: Compiled, path: str) -> dict[tuple[tuple[str, ...], str, str, str], int]:
    if compiled.layout in ("", "given"):
        return {}
    layout = (
        "channels last (8 or more, on a CPU)" if compiled.layout == "pictures" else compiled.layout.replace("_", " ")
    )
    runs = f"with all maps {layout}"
    return {((path or compiled.name,), runs, "", compiled.layout_timing()): -1}


def _names(chain: Block | Rest, path: str) -> tuple[str, ...]:
    return tuple(f"{path}.{stage.name}" if path and stage.name else stage.name or path for stage in chain.stages)
