"""A step as one SVG file of its own, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from switchgrad.probe.tracing.crops import Crops
from switchgrad.probe.tracing.figures import Figure, step_figures
from switchgrad.probe.tracing.record import Step

_GRIDS = Path(__file__).with_name("grids.css")
_MARGIN, _GAP, _LABEL = 16, 56, 24
_LETTER = 7.2  # width of a letter of a label, about
_COLOURS = """svg { --ink: #1c2024; --soft: #5b6470; --line: #d9dee4; --page: #ffffff; --strong: #ffffff;
  --blue: #2563eb; --orange: #c2620a; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e9ed; --soft: #9aa5b1; --line: #363d46; --page: #14171b;
  --strong: #0c0e11; --blue: #7aa7ff; --orange: #f0a04b; } }
.page { fill: var(--page); }
.label, .arrow { font: 600 14px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  fill: var(--ink); }
.label tspan { font-weight: 400; font-size: 12px; fill: var(--soft); } .arrow { font-size: 22px; fill: var(--soft);
  text-anchor: middle; }
"""


def picture(step: Step, crops: Crops, *, weights: bool = False) -> str:
    """Values above, what came back below, input left, output right; then the switches or, with ``weights``, those.

    >>> import torch, switchgrad
    >>> from switchgrad.probe.tracing.crops import crops_of
    >>> story = switchgrad.trace(torch.nn.MaxPool1d(2), torch.tensor([[1.0, 4.0, 3.0, 2.0]]), loss=torch.sum)
    >>> picture(story.steps[0], crops_of(story, 8)[0]).count('class="win"')
    4
    """
    found = step_figures(step, crops)
    rows = [("→", found["x"][:1], found["y"][:1]), ("←", found["dx"][:1], found["dy"][:1])]
    if found["switches"]:
        rows.append(("", [], found["switches"]))
    if weights:
        rows += [("", found["weights"][i : i + 1], found["weights"][i + 1 : i + 2]) for i in (0, 2)]
    return _file([row for row in rows if row[1] or row[2]], f"{step.title}: {step.type}")


def _file(rows: Sequence[tuple[str, list[Figure], list[Figure]]], title: str) -> str:
    left = max((_wide(figure) for _, figures, _ in rows for figure in figures), default=0)
    right = max((_wide(figure) for _, _, figures in rows for figure in figures), default=0)
    second = _MARGIN + left + _GAP
    parts: list[str] = []
    top = _MARGIN
    for arrow, first, last in rows:
        heights = [figure.drawing.height for figure in (*first, *last)]
        for x, figures in ((_MARGIN, first), (second, last)):
            parts += [_label(x, top, figure) + figure.drawing.at(x, top + _LABEL) for figure in figures]
        if arrow and first and last:
            middle = _MARGIN + left + _GAP / 2
            parts.append(
                f'<text class="arrow" x="{middle:g}" y="{top + _LABEL + max(heights) / 2 + 7:g}">{arrow}</text>'
            )
        top += _LABEL + max(heights) + _MARGIN
    width = second + right + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{top:g}" viewBox="0 0 {width:g} {top:g}" '
        f'role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n'
        f"<style>{_COLOURS}{_GRIDS.read_text(encoding='utf-8')}</style>\n"
        f'<rect class="page" width="{width:g}" height="{top:g}" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _label(x: float, top: float, figure: Figure) -> str:
    name, words = escape(figure.symbol), escape(_brief(figure))
    return f'<text class="label" x="{x:g}" y="{top + 14:g}">{name} <tspan>{words}</tspan></text>'


def _brief(figure: Figure) -> str:
    return figure.words.partition(",")[0]


def _wide(figure: Figure) -> float:
    """Room for the grid and for the words above it."""
    return max(figure.drawing.width, round((len(figure.symbol) + len(_brief(figure)) + 2) * _LETTER))
