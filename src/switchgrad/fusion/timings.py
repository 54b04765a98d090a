"""What tuning measured, kept on the module that it was measured for, so that copies and files have it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from torch import nn

KEY = "_switchgrad_timings"


class Timing(NamedTuple):
    """Milliseconds of one block, fused and as it was written."""

    fused_ms: float
    written_ms: float

    def __str__(self) -> str:
        return f"{self.fused_ms:.3g} ms fused, {self.written_ms:.3g} ms as written"


Timings: TypeAlias = "dict[tuple[bool, str], Timing]"  # by mode (training or not) and the block's name


def timings_of(module: nn.Module) -> Mapping[tuple[bool, str], Timing] | None:
    """What was measured for the program of ``module``; None where nobody tuned."""
    return vars(module).get(KEY)


def keep_timings(module: nn.Module, timings: Timings) -> None:
    """Remember what was measured."""
    vars(module)[KEY] = timings
