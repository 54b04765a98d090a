"""A trace on a terminal: a table of the iteration, then the numbers of each step; plain text in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from rich.console import Console
from rich.text import Text
from torch import Tensor, tensor, unravel_index

from switchgrad.app import console
from switchgrad.probe.tracing.crops import Crop, Crops, crops_of, told
from switchgrad.probe.tracing.figures import winner_marks
from switchgrad.probe.tracing.numbers import are_whole, cell, exponent, power, short, times
from switchgrad.probe.tracing.record import Flow, Step, Trace, Update, Winners
from switchgrad.probe.tracing.tables import chosen_steps, facts_of, norm, overview, scores

VALUE, GRADIENT = "bright_blue", "yellow"
Block: TypeAlias = list[Text]
_GAP, _PIPE_WIDTH, _PROSE_WIDTH, _PER_LINE = 4, 160, 120, 10


def show(trace: Trace, title: str, *, side: int, layers: Sequence[str], brief: bool) -> None:
    """Print the table and, unless ``brief``, each step, the loss and the update."""
    steps = chosen_steps(trace, layers)
    out = Console(soft_wrap=True, highlight=False)
    out.print(Text(title, "bold"))
    for name, value in facts_of(trace).items():
        out.print(Text.assemble((f"{name:<12}", "dim"), value))
    out.print()
    console.table(*overview(trace), words=4)
    if brief:
        return
    crops = crops_of(trace, side)
    wide = out.width if sys.stdout.isatty() else _PIPE_WIDTH
    for step in steps:
        out.print()
        for line in _step(step, crops[step.number - 1], wide):
            out.print(line)
    out.print()
    _loss(out, trace, wide)
    _updates(out, trace, {parameter.name for step in steps for parameter in step.parameters}, bool(layers))


def _step(step: Step, crops: Crops, wide: int) -> Iterator[Text]:
    before = ", ".join(times(flow.shape) for flow in step.inputs) or "unseen"
    after = ", ".join(times(flow.shape) for flow in step.outputs)
    what = f"  {step.type}({step.arguments})  " if step.kind == "layer" else f"  ({step.kind})  "
    yield Text.assemble((f"{step.number}  {step.title}", "bold"), (what, "dim"), f"{before} → {after}")
    yield from _rule(step.forward, step.backward, wide)
    values = [*_grids("x", step.inputs, crops.inputs, step), *_grids("y", step.outputs, crops.outputs)]
    back = [*_backs("dx", step.inputs, crops.inputs, step), *_backs("dy", step.outputs, crops.outputs)]
    yield from _beside(values, wide)
    yield from _beside(back, wide)
    if step.winners is not None and step.winners.codes is not None and crops.outputs:
        yield from _beside([_switches(step.winners, crops.outputs[0])], wide)
    for parameter, crop in zip(step.parameters, crops.parameters, strict=True):
        name = parameter.name.rsplit(".", 1)[-1]
        pair = [_grid(name, parameter.value, crop, VALUE)]
        if parameter.gradient is not None:
            pair.append(_grid("d" + name, parameter.gradient, crop, GRADIENT))
        yield from _beside(pair, wide)
    for note in step.notes:
        yield Text(f"   note: {note}", "italic")


def _rule(forward: str, backward: str, wide: int) -> Iterator[Text]:
    """Both directions, in lines that a reader can take in."""
    for name, style, words in (("forward", VALUE, forward), ("backward", GRADIENT, backward)):
        for place, line in enumerate(textwrap.wrap(words, min(wide, _PROSE_WIDTH) - 13) or [""]):
            yield Text.assemble((f"   {name if not place else '':<10}", style), line)


def _beside(grids: Sequence[Block], wide: int) -> Iterator[Text]:
    """Grids in a row where they fit, else one under the other."""
    widths = [max(line.cell_len for line in grid) for grid in grids]
    if sum(widths) + _GAP * len(grids) > wide and len(grids) > 1:
        for grid in grids:
            yield from _beside([grid], wide)
        return
    for place in range(max(map(len, grids), default=0)):
        line = Text("   ")
        for grid, width in zip(grids, widths, strict=True):
            part = grid[place] if place < len(grid) else Text()
            line += part + Text(" " * (width - part.cell_len + _GAP))
        line.rstrip()
        yield line


def _grids(symbol: str, flows: Sequence[Flow], crops: Sequence[Crop], step: Step | None = None) -> list[Block]:
    return [_grid(symbol, f.value, crop, VALUE, step) for f, crop in zip(flows, crops, strict=True)]


def _backs(symbol: str, flows: Sequence[Flow], crops: Sequence[Crop], step: Step | None = None) -> list[Block]:
    pairs = zip(flows, crops, strict=True)
    return [_grid(symbol, f.gradient, crop, GRADIENT, step) for f, crop in pairs if f.gradient is not None]


def _grid(symbol: str, numbers: Tensor, crop: Crop, style: str, step: Step | None = None) -> Block:
    """Numbers in columns under their name; winners in reverse, in brackets where there are no colours."""
    values = crop.cut(numbers)
    factor, whole = exponent(values), are_whole(values)
    marks = winner_marks(step, crop)
    index = f"[{', '.join(map(str, crop.index))}]" if crop.index else ""
    head = ", ".join(filter(None, (power(factor), told(crop, tuple(numbers.shape)), f"norm {short(norm(numbers))}")))
    lines = [Text.assemble(symbol + index, (f"  {head}", "dim"))]
    for r, row in enumerate(values):
        cells = [
            _cell(cell(value, factor, whole), style if value else "dim", (r, c) in marks) for c, value in enumerate(row)
        ]
        lines += [Text().join(cells[start : start + _PER_LINE]) for start in range(0, len(cells), _PER_LINE)]
    return lines


def _cell(shown: str, style: str, won: bool) -> Text:
    if not won:
        return Text(f"{shown:>6} ", style)
    return Text(f"{shown:>6} ", f"reverse {style}") if sys.stdout.isatty() else Text(f"{'[' + shown:>6}]")


def _switches(won: Winners, crop: Crop) -> Block:
    head = Text.assemble("switches", ("  the winner's place in its window, counted row by row", "dim"))
    if won.codes is None or won.window is None:
        return [head]
    cells = won.window.cells
    shown = [[str(int(code)) if 0 <= code < cells else "–" for code in row] for row in crop.cut(won.codes)]
    return [head, *(Text("".join(f"{code:>6} " for code in row)) for row in shown)]


def _loss(out: Console, trace: Trace, wide: int) -> None:
    loss = trace.loss
    out.print(Text(f"loss  {loss.name} {short(loss.value)}", "bold"))
    for line in _rule(loss.forward, loss.backward, wide):
        out.print(line)
    found = scores(trace)
    if found is not None:
        console.table(*found)
    out.print()


def _updates(out: Console, trace: Trace, names: set[str], chosen: bool) -> None:
    out.print(Text(f"update  {trace.rule}, lr = {short(trace.lr)}", "bold"))
    rows = [
        (
            update.name,
            times(tuple(update.before.shape)),
            short(norm(update.before)),
            "–" if update.gradient is None else short(norm(update.gradient)),
            short(norm(update.after - update.before)),
            *_steepest(update),
        )
        for update in trace.updates
        if not chosen or update.name in names
    ]
    console.table(("weight", "shape", "|w|", "|dw|", "|step|", "steepest", "before", "dw", "after"), rows, words=2)
    out.print(f"loss {short(trace.loss.value)} before, {short(trace.loss.after)} after, on the same input")


def _steepest(update: Update) -> tuple[str, str, str, str]:
    """The entry of a weight with the largest gradient: its place, and the number before, its gradient, after."""
    if update.gradient is None or not update.gradient.numel():
        return "–", "–", "–", "–"
    place = int(update.gradient.nan_to_num().abs().argmax())
    index = [int(i) for i in unravel_index(tensor(place), update.gradient.shape)]
    numbers = (float(t.flatten()[place]) for t in (update.before, update.gradient, update.after))
    return (str(index), *map(short, numbers))  # pyright: ignore[reportReturnType]
