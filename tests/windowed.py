"""Geometries and helpers that the tests of windowed operators share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import composed
from composed import Composed, case
from switchgrad import geometry, ops

CASES = {
    1: (case((2, 2, 7), kernel_size=3, stride=2, padding=1), case((1, 3, 6), kernel_size=2)),
    2: (
        case((2, 2, 5, 6), kernel_size=(3, 2), stride=2, padding=(1, 0)),
        case((1, 2, 4, 4), kernel_size=2),
        case((1, 2, 7, 5), kernel_size=2, stride=2, ceil_mode=True, dilation=(2, 1)),
        case((1, 1, 5, 5), kernel_size=3, stride=1, padding=((0, 2), (1, 0))),
        case((1, 2, 1, 5), kernel_size=(1, 2), padding="same", stride=2),
    ),
    3: (case((1, 2, 3, 4, 4), kernel_size=2, padding=(1, 0, 0)),),
}


def with_parameters(name: str, dims: int, shapes: Any, **flags: Any) -> Composed:
    """An operator whose further tensors have the shapes that ``shapes`` says for a case, at half the size."""

    def draw(c: composed.Case, g: torch.Generator) -> tuple[Tensor, ...]:
        return tuple(torch.randn(s, generator=g, dtype=torch.float64) for s in (c.shapes[0], *shapes(c)))

    def run(*given: Tensor, **arguments: Any) -> Tensor:
        return getattr(ops, f"{name}_pool{dims}d")(*given, **arguments)

    return Composed(
        f"{name}_pool{dims}d{flags.pop('note', '')}", run, flags.pop("reference"), CASES[dims], draw=draw, **flags
    )


def laid(x: Tensor, fill: float = 0.0, **arguments: Any) -> Tensor:
    size = tuple(x.shape[2:])
    return ops.windows(x, geometry.window(2, **arguments, input_size=size), fill)
