"""What a rule of fusion is: a chain of operations, and what runs instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from switchgrad.fusion.stages import Stage
from switchgrad.kernels import native


def _always(stages: Sequence[Stage]) -> str:
    del stages
    return ""


def _fast(stages: Sequence[Stage], training: bool) -> str:
    del stages, training
    return ""


@dataclass(frozen=True)
class Rule:
    """``run(input, **fields of all stages)`` computes the chain ``kinds``; ``operator`` is its name in the report.

    Fields of the second stage of a kind end in ``_2``, those of the third in ``_3``.

    ``refuses`` looks at a chain of the right kinds and says why it cannot be taken, or nothing; ``slow`` says, where
    nothing was measured, why it would not gain in a mode (training or not). ``autocast`` is what runs instead while
    autocast is on, if it is something else. ``among`` are the candidates that it stands among: where one operator can
    choose its algorithm itself, it does so "unmeasured", and each algorithm is a candidate where all are "measured";
    what saves memory and no time takes what they "left". ``first`` are fields that a function makes ready before
    anything else of the program runs. ``tiled`` operators work channels last.
    """

    kinds: tuple[str, ...]
    operator: str
    run: Callable[..., Tensor]
    refuses: Callable[[Sequence[Stage]], str] = _always
    slow: Callable[[Sequence[Stage], bool], str] = _fast
    autocast: str = ""
    among: Literal["", "measured", "unmeasured", "left"] = ""
    first: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict[str, Callable[[Any], Any]])
    tiled: bool = False

    @property
    def runs(self) -> str:
        """What runs now."""
        if self.autocast and torch.is_autocast_enabled("cpu"):
            return f"{self.autocast}, while autocast is on"
        return f"{self.operator}, its weight's gradient last" if self.first else self.operator


def needs_library(stages: Sequence[Stage]) -> str:
    """Why a rule of compiled kernels cannot be taken, or nothing."""
    del stages
    return "" if native.LIBRARY is not None else "the compiled kernels are missing"
