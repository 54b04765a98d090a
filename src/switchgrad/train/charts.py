"""Line charts as inline SVG: coloured by the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 40


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, the style sheet's class for it, and a value for each epoch."""

    name: str
    style: str
    values: Sequence[float]


def line_chart(
    title: str, epochs: Sequence[int], lines: Sequence[Line], best_epoch: int, label: Callable[[float], str], log: bool
) -> str:
    """An SVG picture of ``lines`` over ``epochs``, its best epoch marked; every point carries its number as a tooltip.

    >>> line_chart("Loss", [1, 2], [Line("training", "train", [2.0, 1.0])], 2, str, False).count("<circle")
    2
    """
    values = [value for line in lines for value in line.values]
    ticks = log_ticks(min(values), max(values)) if log else linear_ticks(min(values), max(values))
    bend = math.log10 if log else float
    low, high = bend(ticks[0]), bend(ticks[-1])
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((epoch - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (bend(value) - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{label(tick)}</text>')
    for tick in whole_ticks(first, last):
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{tick}</text>')
    parts.append(
        f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>'
    )
    best = x(best_epoch)
    parts.append(f'<line class="best" x1="{best:.1f}" x2="{best:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for line in lines:
        points = [(x(epoch), y(value)) for epoch, value in zip(epochs, line.values, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline class="{line.style}" points="{path}"/>')
        radius = 3 if len(points) <= 40 else 1.5
        for (px, py), epoch, value in zip(points, epochs, line.values, strict=True):
            tip = f"{line.name}, epoch {epoch}: {label(value)}"
            parts.append(
                f'<circle class="{line.style}" cx="{px:.1f}" cy="{py:.1f}" r="{radius}"><title>{tip}</title></circle>'
            )
    return "".join(parts) + "</svg>"


def linear_ticks(low: float, high: float) -> list[float]:
    """Round numbers, 4 to 7 of them, whose first and last enclose ``low`` and ``high``.

    >>> linear_ticks(0.83, 0.991)
    [0.8, 0.85, 0.9, 0.95, 1.0]
    """
    span = max(high - low, abs(high) * 1e-3, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose ``low`` and ``high``; powers of ten alone over many decades.

    >>> log_ticks(0.03, 2.2)
    [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    """
    factors = (1, 2, 5) if high < 1000 * low else (1,)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ladder = [float(f"{factor}e{decade}") for decade in decades for factor in factors]
    first = max(i for i, tick in enumerate(ladder) if tick <= low)
    last = min(i for i, tick in enumerate(ladder) if tick >= high)
    return ladder[first : max(last, first + 1) + 1]


def whole_ticks(first: int, last: int) -> list[int]:
    """At most about eight whole numbers from ``first`` to ``last``.

    >>> whole_ticks(1, 20), whole_ticks(3, 3)
    ([1, 5, 10, 15, 20], [3])
    """
    span = last - first
    steps = (factor * 10**power for power in range(7) for factor in (1, 2, 5))
    step = next(step for step in steps if span / step <= 7)
    return sorted({first, *range(-(-(first + step // 2) // step) * step, last + 1, step)})
