"""Writes docs/pooling.md and its pictures from the table in `pooling_entries.py`.

python scripts/pooling_docs.py            # writes
python scripts/pooling_docs.py --check    # says what is out of date, and fails
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from pooling_entries import ENTRIES, GRID, NOT_POOLING, SEQUENCE, Entry
from switchgrad import ops

DOCS = Path(__file__).resolve().parents[1] / "docs"
CELL, GAP = 38, 26  # pixels
NUMBERS = {
    GRID: [[3.0, 9.0, 0.0, 6.0], [1.0, 2.0, 7.0, -4.0], [5.0, 5.0, -1.0, 2.0], [0.0, 8.0, 3.0, 4.0]],
    SEQUENCE: [[2.0, 0.0, 5.0, 1.0, -3.0, 4.0, 4.0, 1.0]],
}
HEAD = """# Pooling, kind by kind

Written by `python scripts/pooling_docs.py`; a test holds it to the operators. Each picture: the input, what pooling
makes of it, and the gradient that comes back to the input when every pooled cell sends back 1. Blue is above zero, red
below. The full rules (shapes, ties, edges, formula, paper) are the operators' docstrings.

"""


def number(value: float) -> str:
    """Short enough for a cell."""
    return f"{round(value, 2) + 0.0:g}"


def grid(values: Tensor, left: float, top: float, title: str) -> list[str]:
    """A matrix as coloured cells with numbers under a title."""
    most = max(float(values.abs().max()), 1e-9)
    drawn = [f'<text x="{left}" y="{top - 8}" class="title">{title}</text>']
    for r, c in product(range(values.shape[0]), range(values.shape[1])):
        value = float(values[r, c])
        x, y = left + c * CELL, top + r * CELL
        colour = "#1f77b4" if value > 0 else "#d62728"
        drawn.append(
            f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{colour}" '
            f'fill-opacity="{0.65 * abs(value) / most:.2f}" stroke="#888"/>'
        )
        drawn.append(f'<text x="{x + CELL / 2:g}" y="{y + CELL / 2 + 4:g}" class="cell">{number(value)}</text>')
    return drawn


def picture(entry: Entry) -> str:
    """Input, result and gradient side by side, as SVG."""
    x = entry.made(torch.tensor(NUMBERS[entry.shape]).reshape(entry.shape)).requires_grad_()
    y = entry.picture(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    shown = [(t.detach().reshape(-1, t.shape[-1]), title) for t, title in ((x, "input"), (y, "pooled"))]
    shown.append((gradient.reshape(-1, x.shape[-1]), "gradient"))
    left, top, drawn = 8, 26, list[str]()
    for values, title in shown:
        drawn += grid(values, left, top, title)
        left += max(values.shape[1] * CELL, 2 * CELL) + GAP
    height = top + max(values.shape[0] for values, _ in shown) * CELL + 8
    style = (
        "<style>text{font-family:sans-serif;fill:#222}.title{font-size:12px}"
        ".cell{font-size:11px;text-anchor:middle}</style>"
    )
    size = f'width="{left - GAP + 8}" height="{height}" viewBox="0 0 {left - GAP + 8} {height}"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', f"<title>{entry.title}</title>", style]
    return "\n".join([*lines, background, *drawn, "</svg>"]) + "\n"


def file_of(entry: Entry) -> str:
    """The picture's path below docs."""
    return f"pictures/pooling/{entry.names[0]}.svg"


def what(entry: Entry) -> str:
    """The first line of the docstring of the documented operator."""
    return (getattr(ops, entry.names[0]).__doc__ or "").strip().splitlines()[0]


def row(entry: Entry) -> str:
    """The operator's row of the table."""
    names = ", ".join(f"`{name}`" for name in sorted(entry.names))
    drawn = f"![{entry.title}]({file_of(entry)})"
    return f"| **{entry.title}**<br>{names} | {what(entry)} | {entry.when} | [test](../{entry.test}) | {drawn} |"


def missing() -> list[str]:
    """Operators that `switchgrad.ops` exports and no entry names."""
    named = {name for entry in ENTRIES for name in entry.names} | NOT_POOLING
    return sorted(set(ops.__all__) - named)


def pages() -> dict[str, str]:
    """Every generated file, by its path below docs."""
    table = ["| operator | what it is | when to use it | tests | input, pooled, gradient |", "|---|---|---|---|---|"]
    written = {"pooling.md": HEAD + "\n".join(table + [row(entry) for entry in ENTRIES]) + "\n"}
    return written | {file_of(entry): picture(entry) for entry in ENTRIES}


def out_of_date() -> list[str]:
    """Files below docs that differ from what would be written, or that nothing writes any more."""
    wanted = pages()
    there = {p.relative_to(DOCS).as_posix() for p in (DOCS / "pictures" / "pooling").glob("*.svg")}
    stale = [name for name, text in wanted.items() if not (DOCS / name).is_file() or (DOCS / name).read_text() != text]
    return stale + sorted(there - set(wanted))


def main() -> None:
    if missing():
        raise SystemExit(f"no entry in scripts/pooling_entries.py names {', '.join(missing())}")
    if "--check" in sys.argv:
        if stale := out_of_date():
            raise SystemExit(f"out of date: {', '.join(stale)}; run python scripts/pooling_docs.py")
        return
    (DOCS / "pictures" / "pooling").mkdir(parents=True, exist_ok=True)
    for name in out_of_date():
        (DOCS / name).unlink(missing_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
