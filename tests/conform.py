"""The harness: an operator declares itself once (`Operator`), and `check` holds it to every word.

    import conform

    OPERATOR = conform.Operator(name="my_pool", function=..., reference=..., cases=(...,))
    test_my_pool = conform.tests(OPERATOR)

`README.md` in this folder says how to declare an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from harness import backward, forward, transforms
from harness.declaration import FLOATS, INTEGERS, Case, Mutant, Operator

__all__ = [
    "CHECKS",
    "FLOATS",
    "INTEGERS",
    "Case",
    "Failure",
    "Mutant",
    "Operator",
    "check",
    "mutant_tests",
    "stand_in",
    "tests",
]


class Failure(AssertionError):
    """An operator is not what it declares; ``check`` names the check that saw it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.check = name


def laws_hold(operator: Operator) -> None:
    """Every mathematical property that the operator declares."""
    for law in operator.laws:
        try:
            law.check(operator)
        except AssertionError as error:
            raise AssertionError(f"law '{law.name}': {error}") from error


# In the order in which they run: what finds most in the least time comes first.
QUICK = (*forward.CHECKS, *backward.CHECKS, laws_hold, *transforms.CHECKS, *forward.THOROUGH)
CHECKS: dict[str, Callable[[Operator], None]] = {run.__name__: run for run in (*QUICK, *transforms.SLOW_CHECKS)}


def check(operator: Operator, names: Iterable[str] | None = None) -> None:
    """Run the quick checks, or those named, in order; raise a `Failure` at the first that fails."""
    for name in names if names is not None else [run.__name__ for run in QUICK]:
        try:
            CHECKS[name](operator)
        except Exception as error:  # a mutant may break in any way; the check that saw it is what counts
            raise Failure(name, str(error)) from error


def tests(operator: Operator, *, traced: bool = True) -> Any:  # noqa: PT028
    """A pytest function that runs every check as a test of its own.

    ``traced`` False leaves out the compiler and export, which take seconds: for operators that share their path through
    the code with one that is traced.
    """
    slow = {run.__name__ for run in transforms.SLOW_CHECKS}
    marked = [
        pytest.param(name, marks=[pytest.mark.slow] if name in slow else [])
        for name in CHECKS
        if traced or name not in slow
    ]

    @pytest.mark.parametrize("name", marked)
    def conforms(name: str) -> None:
        check(operator, [name])

    return conforms


def stand_in(operator: Operator, name: str, function: Callable[..., Any]) -> Operator:
    """A declaration for something in Python that claims to be the operator: a mutant, a slower reference."""
    return replace(
        operator,
        name=f"{operator.name}: {name}",
        function=function,
        values_only=None,
        native=False,
        saved_bytes=None,
        registered=None,
        layer=None,
    )


def mutant_tests(operator: Operator) -> Any:
    """A pytest function for each mutant: the checks must tell it from the operator, and the named one sees it first."""

    @pytest.mark.parametrize("mutant", operator.mutants, ids=lambda mutant: mutant.name)
    def is_killed(mutant: Mutant) -> None:
        with pytest.raises(Failure) as killed:
            check(stand_in(operator, mutant.name, mutant.function))
        assert killed.value.check == mutant.killed_by, killed.value

    return is_killed
