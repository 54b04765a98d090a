"""Derivatives by differences, and the judgement on one of autograd's.

At a smooth place the two one-sided differences ``(f(x + h) - f(x)) / h`` and ``(f(x) - f(x - h)) / h`` come together as
the step ``h`` shrinks, and their mean is the derivative. On a kink (a ReLU at 0, a tie of a maximum) they stay apart at
every step; at a jump they grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from switchgrad.probe.gradients.report import Entry, Judgement

STEPS = (1e-5, 1e-6, 3e-7)
"""Tried in turn until both agree: a kink near by disturbs the large ones, rounding the small ones."""

_EPS = 2.0**-52
_GROWS = 2.0
Along = Callable[[float], float]


def judge(
    index: tuple[int, ...], autograd: float, along: Along, centre: float, size: float, floor: float, tolerance: float
) -> Entry:
    """Compare ``autograd`` with the slope at 0 of ``along``, a function of one number.

    ``centre`` is its value at 0, ``size`` what the distance is added to, ``floor`` the least number that errors are
    relative to.
    """
    tried: list[Entry] = []
    for step in STEPS:
        entry = _measured(index, autograd, along, centre, step * max(1.0, size), floor, tolerance)
        if entry.judgement == "right":
            return entry
        tried.append(entry)
    judgement = _kind(tried, tolerance, floor)
    return (
        min(tried, key=lambda entry: entry.error) if judgement == "wrong" else replace(tried[-1], judgement=judgement)
    )


def _measured(
    index: tuple[int, ...], autograd: float, along: Along, centre: float, h: float, floor: float, tolerance: float
) -> Entry:
    """The entry at one step ``h``: right or wrong."""
    ahead, behind = along(h), along(-h)
    numeric = (ahead - behind) / (2 * h)
    noise = 20 * _EPS * max(abs(centre), abs(ahead), abs(behind)) / h
    error = relative(autograd, numeric, max(floor, noise / tolerance))
    judgement: Judgement = "right" if error <= tolerance else "wrong"
    return Entry(index, autograd, numeric, (centre - behind) / h, (ahead - centre) / h, error, judgement)


def relative(one: float, other: float, floor: float) -> float:
    """The difference of two numbers relative to the larger, or to ``floor``; infinite where either is no number.

    >>> relative(1.0, 1.1, 1e-9), relative(float("nan"), 1.0, 1e-9)
    (0.0909..., inf)
    """
    error = abs(one - other) / max(abs(one), abs(other), floor)
    return error if error == error else float("inf")


def _kind(tried: list[Entry], tolerance: float, floor: float) -> Judgement:
    """Kink, jump or plainly wrong, by what the gap between the sides does as the step shrinks."""
    first, last = abs(tried[0].right - tried[0].left), abs(tried[-1].right - tried[-1].left)
    low, high = sorted((tried[-1].left, tried[-1].right))
    slack = 10 * tolerance * max(abs(low), abs(high), floor)
    if not last > slack:
        return "wrong"
    if last > _GROWS * first:
        return "jump"
    between = low - slack <= tried[-1].autograd <= high + slack
    return "kink" if between and last > first / _GROWS else "wrong"
