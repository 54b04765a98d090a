"""Numbers short enough for a small cell, and shapes as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def exponent(values: Sequence[Sequence[float]]) -> int:
    """The power of ten to take out of a grid, so that its largest number has one digit before the point; often 0.

    >>> exponent([[0.0, -0.00231]]), exponent([[0.5, 12.0]]), exponent([[40_000.0]])
    (-3, 0, 4)
    """
    largest = max((abs(value) for row in values for value in row if math.isfinite(value)), default=0.0)
    return 0 if not largest or 0.095 <= largest < 1000 else math.floor(math.log10(largest))


def power(exponent: int) -> str:
    """The factor to write above a grid.

    >>> power(-3), power(0)
    ('× 10⁻³', '')
    """
    return f"× 10{str(exponent).translate(_SUPERSCRIPT)}" if exponent else ""


def cell(value: float, exponent: int = 0, whole: bool = False) -> str:
    """A number in at most five characters, a power of ten taken out.

    >>> cell(-0.00231, -3), cell(0.0), cell(0.001), cell(12.345), cell(3.0, whole=True), cell(math.inf)
    ('−2.31', '0', '0.00', '12.3', '3', '∞')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    scaled = value / 10.0**exponent
    size = abs(scaled)
    places = 0 if whole or size >= 99.95 else 1 if size >= 9.995 else 2
    text = "0" if not value else f"{size:.{places}f}"
    return ("−" if value < 0 else "") + text


def are_whole(values: Sequence[Sequence[float]]) -> bool:
    """Whether every number is a whole one, so that no decimals need be shown."""
    return all(math.isfinite(value) and float(value).is_integer() for row in values for value in row)


def short(value: float | None) -> str:
    """A number for a table: three digits.

    >>> short(0.123456), short(1234.5), short(0.0), short(None)
    ('0.123', '1.23e+03', '0', '–')
    """
    return "–" if value is None else f"{value:.3g}".replace("-", "−", 1) if value < 0 else f"{value:.3g}"


def times(shape: Sequence[int]) -> str:
    """A shape in a line.

    >>> times((1, 6, 28, 28)), times(())
    ('1×6×28×28', 'one number')
    """
    return "×".join(map(str, shape)) or "one number"
