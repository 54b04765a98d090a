"""What tuning measured, kept on the module that it was measured for, so that copies and files have it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import nn

KEY = "_switchgrad_timings"
WRITTEN = ""  # in the place of an operator: the chain as the model wrote it

Layout: TypeAlias = 'Literal["", "contiguous", "channels_last", "pictures", "given"]'
"""The layout to which a program brings its maps where they come in; "" leaves them as they are.

Two are for programs that nobody tuned: "pictures" is channels last for many of them on the CPU, and elsewhere as they
are; "given" looks only after those that go out.
"""

Costs: TypeAlias = "Mapping[tuple[str, str], float]"
"""Milliseconds of a chain (its name) by an operator (its name, or `WRITTEN`), in one mode and layout."""


@dataclass
class Timings:
    """Milliseconds of every candidate of one module's programs.

    ``chains`` are pieces of a forward: by mode (training or not), layout, the piece's name, and what ran it. ``whole``
    is the forward with the fastest candidates of each layout.
    """

    chains: dict[tuple[bool, Layout, str, str], float] = field(
        default_factory=dict[tuple[bool, Layout, str, str], float]
    )
    whole: dict[tuple[bool, Layout], float] = field(default_factory=dict[tuple[bool, Layout], float])

    def layout(self, training: bool) -> Layout:
        """The layout in which the whole was fastest."""
        found: list[tuple[float, Layout]] = [(ms, key[1]) for key, ms in self.whole.items() if key[0] == training]
        return min(found)[1] if found else ""

    def costs(self, training: bool, layout: Layout) -> Costs:
        """What chains cost in one mode and layout."""
        return {key[2:]: ms for key, ms in self.chains.items() if key[:2] == (training, layout)}


def timings_of(module: nn.Module) -> Timings | None:
    """What was measured for the programs of ``module``; None where nobody tuned."""
    return vars(module).get(KEY)


def keep_timings(module: nn.Module, timings: Timings) -> None:
    """Remember what was measured."""
    vars(module)[KEY] = timings
