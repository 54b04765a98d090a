"""The inputs that PyTorch's own test database (OpInfo) keeps for its pooling operators, run on ours and on PyTorch's.

Values, indices and gradients must agree; of the wrong inputs ours must refuse what PyTorch refuses, but for `ALLOWED`.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from peers.replaced import FUNCTIONS, differ
from switchgrad import ops

# What PyTorch refuses and ours takes on purpose: part of PyTorch's message, and why.
ALLOWED = {
    "pad should be at most half of": "padding may reach the window's span less one; asymmetric and 'same' need it",
    "padding should be at most half": "padding may reach the window's span less one; asymmetric and 'same' need it",
}
# Where ours gives another gradient on purpose; the values agree.
TWICE = "several values are put in one cell: the last stays, and with ours only that one gets the gradient"


@dataclass(frozen=True)
class Sample:
    """One call of the database."""

    name: str
    place: int
    input: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        shapes = tuple(self.input.shape) if isinstance(self.input, Tensor) else self.input
        return f"{self.name}[{self.place}]: {shapes}, {self.args}, {self.kwargs}"


@functools.cache
def database() -> dict[str, list[Any]]:
    """PyTorch's entries for each of our functions; a name may have several."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    found: dict[str, list[Any]] = {name: [] for name in FUNCTIONS}
    for entry in op_db:
        name = entry.name.removeprefix("nn.functional.")
        if name in found:
            found[name].append(entry)
    return {name: entries for name, entries in found.items() if entries}


def samples(name: str) -> Iterator[tuple[Any, Sample]]:
    """PyTorch's function and a call of it, for all that the database has."""
    for entry in database()[name]:
        for place, s in enumerate(entry.sample_inputs("cpu", torch.float32, requires_grad=True)):
            yield entry.op, Sample(name, place, s.input, tuple(s.args), dict(s.kwargs))


def results(function: Any, sample: Sample, gradients: bool) -> list[Any]:
    """The outputs, and the gradient of the first one's weighted sum."""
    torch.manual_seed(sample.place)
    x = sample.input.detach().clone().requires_grad_(gradients)
    out = function(x, *sample.args, **sample.kwargs)
    values = out[0] if isinstance(out, tuple) else out
    found = list(out) if isinstance(out, tuple) else [out]
    if gradients and values.requires_grad:
        weights = torch.arange(values.numel(), dtype=values.dtype).reshape(values.shape).remainder(7) + 1
        found += torch.autograd.grad((values * weights).sum(), x)
    return [t.detach() for t in found]


def puts_twice(sample: Sample) -> bool:
    """Whether an unpooling puts several values of a map in one cell."""
    if "unpool" not in sample.name:
        return False
    indices = sample.args[0]
    rows = indices.reshape(-1, indices.shape[-int(sample.name[-2]) :].numel())
    return any(len(row.unique()) < len(row) for row in rows)


def differing(name: str, every: int = 1) -> tuple[int, int, list[str]]:
    """How many samples were run, how many of them differ for the reason `TWICE`, and those that differ otherwise.

    Gradients of one sample in ``every`` are compared, and of all where the reason may be met.
    """
    wrong: list[str] = []
    count = twice = 0
    for theirs, sample in samples(name):
        count += 1
        known = puts_twice(sample)
        if known:
            twice += differ(*(results(f, sample, True) for f in (getattr(ops, name), theirs)))
        gradients = not known and count % every == 0
        # The database wraps random operators in a function that sets the seed: ours is called in the same way.
        try:
            if differ(results(getattr(ops, name), sample, gradients), results(_plain(theirs, name), sample, gradients)):
                wrong.append(str(sample))
        except Exception as error:  # a table of what fails is the point
            wrong.append(f"{sample}: {type(error).__name__}: {str(error)[:200]}")
    return count, twice, wrong


def _plain(function: Any, name: str) -> Any:
    return getattr(torch.nn.functional, name) if name.startswith("fractional") else function


@functools.cache
def refusals(name: str) -> tuple[int, list[str], list[str]]:
    """How many wrong inputs there are, those that ours takes on purpose, and those that it should refuse."""
    count, allowed, wrong = 0, list[str](), list[str]()
    for entry in database()[name]:
        for e in entry.error_inputs("cpu") if entry.error_inputs_func else ():
            count += 1
            s = e.sample_input
            try:
                getattr(ops, name)(s.input, *s.args, **s.kwargs)
            except (ValueError, RuntimeError, TypeError, IndexError):
                continue
            reason = next((why for part, why in ALLOWED.items() if re.search(part, e.error_regex)), None)
            (allowed if reason else wrong).append(f"{name}: {e.error_regex}")
    return count, allowed, wrong
