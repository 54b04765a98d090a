"""The sentences that operators of floating-point numbers share about their input."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError

FLOATS = frozenset((torch.float64, torch.float32, torch.float16, torch.bfloat16))


def check_floats(input: Tensor, dims: int, name: str) -> None:
    """Refuse inputs that have the wrong number of axes, an empty axis besides the batch, or no floating-point dtype."""
    check_axes(input, dims, name)
    if input.dtype not in FLOATS:
        raise GeometryError(
            f"the input has dtype {input.dtype}; {name} takes float64, float32, float16 or bfloat16, so convert it "
            "first, for example with .float()"
        )


def check_axes(input: Tensor, dims: int, name: str) -> None:
    """Refuse inputs that have the wrong number of axes or an empty axis besides the batch."""
    if input.dim() not in (dims + 1, dims + 2):
        raise GeometryError(
            f"{name} takes an input of {dims + 1} or {dims + 2} axes (without or with a batch); this one has "
            f"shape {tuple(input.shape)}"
        )
    if 0 in input.shape[-dims - 1 :]:
        raise GeometryError(
            f"the input has an axis without cells (shape {tuple(input.shape)}); every axis but the batch needs at "
            "least 1 cell"
        )
