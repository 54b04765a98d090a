"""The little grids, as SVG: a cell a number, the stronger its colour the larger its size. Positive numbers fill
their cell, negative ones ring it, winners have a heavy frame.

Colours come from the page's style sheet by class: ``forward`` for values, ``gradient`` for what came back, ``switch``
for the addresses of winners.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape

from switchgrad.probe.tracing.numbers import are_whole, cell, exponent

WIDE, HIGH, HEAD = 44, 28, 14
_STRONG = 0.6
_MOST_GLYPH_CELLS = 25

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A piece of SVG and its size in pixels."""

    body: str
    width: int
    height: int
    style: str
    title: str

    def inline(self) -> str:
        """For a page, which narrows it where it is too wide."""
        return (
            f'<svg class="{self.style}" viewBox="0 0 {self.width} {self.height}" style="width:{self.width}px" '
            f'role="img" aria-label="{escape(self.title)}">{self.body}</svg>'
        )

    def at(self, x: float, y: float) -> str:
        """For a picture: at a place of it."""
        return f'<g class="{self.style}" transform="translate({x:g} {y:g})">{self.body}</g>'


def grid(
    values: Sequence[Sequence[float]],
    style: str,
    title: str,
    *,
    winners: Collection[Place] = (),
    block: tuple[int, int] | None = None,
    labels: Sequence[str] = (),
) -> Drawing:
    """Numbers in cells, a power of ten taken out (`numbers.exponent` says which).

    ``winners`` get a frame; ``block`` draws a line around every so many rows and columns; ``labels`` stand above the
    cells of a vector, which is broken into lines.
    """
    lines, heads = _lines(values, labels)
    factor, whole = exponent(values), are_whole(values)
    most = max((abs(value) for row in values for value in row if math.isfinite(value)), default=0.0)
    step = HIGH + (HEAD if heads else 0)
    parts: list[str] = []
    frames: list[str] = []
    for r, row in enumerate(lines):
        for c, value in enumerate(row):
            x, y = c * WIDE, r * step + (HEAD if heads else 0)
            if heads:
                parts.append(f'<text class="head" x="{x + WIDE / 2:g}" y="{y - 4}">{escape(heads[r][c])}</text>')
            parts.append(_cell(x, y, value, cell(value, factor, whole), _depth(value, most)))
            if (r, c) in winners:
                frames.append(f'<rect class="win" x="{x + 1}" y="{y + 1}" width="{WIDE - 1}" height="{HIGH - 1}"/>')
    rows, columns = len(lines), max(map(len, lines), default=0)
    if block is not None:
        parts.append(_blocks(rows, columns, block))
    return Drawing("".join(parts + frames), columns * WIDE + 2, rows * step + 2, style, title)


def _lines(values: Sequence[Sequence[float]], labels: Sequence[str]) -> tuple[list[list[float]], list[list[str]]]:
    """A vector with labels in lines of about equal length; anything else as it is."""
    if len(values) != 1 or not labels:
        return [list(row) for row in values], []
    row = list(values[0])
    per_line = math.ceil(len(row) / math.ceil(len(row) / 8)) if row else 1
    starts = range(0, len(row), per_line)
    return [row[s : s + per_line] for s in starts], [list(labels[s : s + per_line]) for s in starts]


def _depth(value: float, most: float) -> float:
    """How strong the colour is: nothing for 0, then at least a hint."""
    if not value or not most or math.isnan(value):
        return 0.0
    return 0.08 + 0.82 * min(abs(value) / most, 1.0)


def _cell(x: float, y: float, value: float, text: str, depth: float) -> str:
    """A positive number fills its cell, a negative one rings it."""
    faint = ' class="zero"' if not depth else ' class="strong"' if depth > _STRONG and value > 0 else ""
    if not depth:
        paint = ""
    elif value > 0:
        paint = f'<rect class="fill" x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" fill-opacity="{depth:.2f}"/>'
    else:
        paint = (
            f'<rect class="ring" x="{x + 3.5}" y="{y + 3.5}" width="{WIDE - 6}" height="{HIGH - 6}" '
            f'stroke-opacity="{depth:.2f}"/>'
        )
    return (
        f'{paint}<rect class="edge" x="{x + 0.5}" y="{y + 0.5}" width="{WIDE}" height="{HIGH}"/>'
        f'<text{faint} x="{x + WIDE / 2:g}" y="{y + 18}">{text}</text>'
    )


def _blocks(rows: int, columns: int, block: tuple[int, int]) -> str:
    """Lines between windows that do not overlap."""
    down = "".join(f"M{c * WIDE + 0.5} 0V{rows * HIGH + 1}" for c in range(0, columns + 1, block[1]))
    across = "".join(f"M0 {r * HIGH + 0.5}H{columns * WIDE + 1}" for r in range(0, rows + 1, block[0]))
    return f'<path class="block" d="{down}{across}"/>'


def switch_map(codes: Sequence[Sequence[int]], kernel: tuple[int, int], title: str) -> Drawing:
    """For every pooled cell its switch: the number, and the window with the winner's place filled."""
    parts: list[str] = []
    glyph = kernel[0] * kernel[1] <= _MOST_GLYPH_CELLS
    for r, row in enumerate(codes):
        for c, code in enumerate(row):
            x, y = c * WIDE, r * HIGH
            parts.append(f'<rect class="edge" x="{x + 0.5}" y="{y + 0.5}" width="{WIDE}" height="{HIGH}"/>')
            if glyph:
                parts.append(_window(x + 5, y + HIGH / 2, kernel, code))
            none = code < 0 or code >= kernel[0] * kernel[1]
            place = x + (33 if glyph else WIDE / 2)
            parts.append(f'<text x="{place:g}" y="{y + 18}">{"–" if none else code}</text>')
    rows, columns = len(codes), max(map(len, codes), default=0)
    return Drawing("".join(parts), columns * WIDE + 1, rows * HIGH + 1, "switch", title)


def _window(x: float, middle: float, kernel: tuple[int, int], code: int) -> str:
    """A window as small squares, the winner filled."""
    size = 18 / max(kernel)
    top = middle + 0.5 - kernel[0] * size / 2
    return "".join(
        f'<rect class="{"on" if r * kernel[1] + c == code else "off"}" x="{x + c * size:.1f}" y="{top + r * size:.1f}" '
        f'width="{size - 1:.1f}" height="{size - 1:.1f}"/>'
        for r in range(kernel[0])
        for c in range(kernel[1])
    )
