"""A trace as a page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from switchgrad.page import document, facts, section, table
from switchgrad.probe.tracing.crops import Crops, crops_of
from switchgrad.probe.tracing.figures import Figure, step_figures, update_figures
from switchgrad.probe.tracing.numbers import short, times
from switchgrad.probe.tracing.record import Loss, Step, Trace, Update
from switchgrad.probe.tracing.tables import chosen_steps, facts_of, norm, overview, scores

_STYLES = tuple(Path(__file__).with_name(name) for name in ("grids.css", "page.css"))
_LANES = ("x", "y", "dx", "dy")
_MOST_FIGURES = 6
_KEY = (
    ("forward", "forward: values"),
    ("gradient", "backward: gradients of the loss"),
    ("minus", "negative numbers ring their cell"),
    ("winner", "winner of a max pooling window"),
)


def render(trace: Trace, *, side: int = 8, layers: Sequence[str] = (), title: str = "") -> str:
    """The page: all of the iteration in a table, then every step with its grids, the loss, the update.

    ``side`` is how many rows and columns of a tensor are shown at most, ``layers`` which steps (names or numbers, all
    by default), ``title`` a heading of your own. Raises `ModelError` for a layer that is not there.
    """
    steps = chosen_steps(trace, layers)
    crops = crops_of(trace, side)
    heading = title or f"One training iteration of {trace.model}"
    style = "".join(path.read_text(encoding="utf-8") for path in _STYLES)
    parts = [
        _header(trace, heading),
        section("The iteration in a table", _overview(trace, {step.number for step in steps})),
        *(_step(step, crops[step.number - 1], trace) for step in steps),
        section("Loss", _loss(trace, trace.loss)),
        section("Update", _updates(trace, steps)),
    ]
    return document(heading, style, parts)


def _header(trace: Trace, heading: str) -> str:
    key = "".join(f'<span><i class="{style}"></i>{words}</span>' for style, words in _KEY)
    return (
        f"<header>\n<h1>{escape(heading)}</h1>\n{facts(facts_of(trace))}\n"
        f'<p class="key">{key}</p>\n'
        '<p class="note">In each step x goes in and y comes out; then dy, the gradient of the loss by y, comes back '
        "from the steps after it, and the step sends dx on to those before it. The stronger the colour of a cell, the "
        "larger its number; a power of ten that a whole grid shares stands above it. Where a layer keeps places, all "
        "four grids show the same cells.</p>\n</header>"
    )


def _overview(trace: Trace, linked: set[int]) -> str:
    head, rows = overview(trace)
    body = "".join(_overview_row(row, linked) for row in rows)
    caption = "Norms are over the whole tensor. dx, dy: gradients of the loss by a step's input and output."
    return f'<div class="overview">{table(list(map(escape, head)), body, caption)}</div>'


def _overview_row(row: Sequence[str], linked: set[int]) -> str:
    number, name, *rest = map(escape, row)
    named = f'<a href="#step-{number}">{name}</a>' if number.isdigit() and int(number) in linked else name
    cells = "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<tr><td>{number}</td><th scope="row">{named}</th>{cells}</tr>'


def _step(step: Step, crops: Crops, trace: Trace) -> str:
    last = step.number == len(trace.steps)
    found = step_figures(step, crops, trace.classes if last else ())
    lanes = "".join(f'<div class="lane {lane}">{_figures(found[lane])}</div>' for lane in _LANES)
    kind = "" if step.kind == "layer" else f' <span class="soft">({step.kind})</span>'
    arguments = f"({escape(step.arguments)})" if step.arguments else ""
    shapes = " , ".join(times(flow.shape) for flow in step.inputs) or "unseen"
    results = " , ".join(times(flow.shape) for flow in step.outputs)
    calls = f'<p class="soft">It calls {escape(", ".join(step.functions))}.</p>' if step.functions else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in step.notes)
    extra = f'<div class="row">{_figures(found["switches"])}</div>' if found["switches"] else ""
    weights = f'<h3>Weights</h3><div class="row">{_figures(found["weights"])}</div>' if found["weights"] else ""
    return (
        f'<section class="step" id="step-{step.number}">\n<h2><span class="number">{step.number}</span>'
        f"{escape(step.title)}{kind}</h2>\n"
        f'<p class="what"><code>{escape(step.type)}{arguments}</code> <span>{shapes} → {results}</span></p>\n'
        f'<dl class="rule"><dt class="forward">Forward</dt><dd>{escape(step.forward)}</dd>'
        f'<dt class="gradient">Backward</dt><dd>{escape(step.backward)}</dd></dl>{calls}\n'
        f'<div class="lanes">{lanes}</div>\n{extra}{weights}'
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + "</section>"
    )


def _figures(found: Sequence[Figure]) -> str:
    shown = "".join(_figure(figure) for figure in found[:_MOST_FIGURES])
    left = len(found) - _MOST_FIGURES
    return shown + (f'<p class="soft">and {left} more</p>' if left > 0 else "")


def _figure(figure: Figure) -> str:
    return (
        f"<figure><figcaption><b>{escape(figure.symbol)}</b> {escape(figure.words)}</figcaption>"
        f"{figure.drawing.inline()}</figure>"
    )


def _loss(trace: Trace, loss: Loss) -> str:
    found = scores(trace)
    change = "fell" if loss.after < loss.value else "rose" if loss.after > loss.value else "stayed"
    verdict = (
        f"<p>With the weights updated, the same input gives {short(loss.after)}: the loss {change}"
        + ("" if change == "fell" else ", so the rate is too high for this one step, or randomness played a part")
        + ".</p>"
    )
    rule = (
        f'<dl class="rule"><dt class="forward">Forward</dt><dd>{escape(loss.forward)}</dd>'
        f'<dt class="gradient">Backward</dt><dd>{escape(loss.backward)}</dd></dl>'
    )
    lead = f'<p class="score"><strong>{short(loss.value)}</strong><span>{escape(loss.name)}</span></p>'
    if found is None:
        return lead + rule + verdict
    head, rows = found
    body = "".join(
        f'<tr{" class=target" if row[-1] else ""}><th scope="row">{escape(row[0])}{" ← target" if row[-1] else ""}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:-1])
        + "</tr>"
        for row in rows
    )
    return lead + rule + table(head[:-1], body, "The first sample.") + verdict


def _updates(trace: Trace, steps: Sequence[Step]) -> str:
    shown = {parameter.name for step in steps for parameter in step.parameters}
    chosen = [update for update in trace.updates if update.name in shown or len(steps) == len(trace.steps)]
    if not chosen:
        return "<p>No weight among these steps can learn.</p>"
    lead = (
        f"<p><code>{escape(trace.rule)}</code>, lr = {short(trace.lr)}; a weight that is used more than once has one "
        "gradient, the sum over its uses.</p>"
    )
    return lead + "".join(_update(update) for update in chosen)


def _update(update: Update) -> str:
    change = update.after - update.before
    before = norm(update.before)
    share = f"; the step is {norm(change) / before:.2%} of its norm" if before else ""
    untouched = "" if update.gradient is not None else "; no gradient: unchanged"
    return (
        f'<div class="update"><h3>{escape(update.name)} <small>{times(tuple(update.before.shape))}{share}{untouched}'
        f'</small></h3><div class="row">{_figures(update_figures(update))}</div></div>'
    )
