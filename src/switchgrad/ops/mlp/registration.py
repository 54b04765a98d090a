"""Registers chains of fully connected layers for devices without a kernel, and their shapes for tracing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.mlp import reference


def _mlp(input: Tensor, weights: Sequence[Tensor], _: Sequence[Tensor | None], kept: bool) -> list[Tensor]:
    given = [weights[-1], *(weights[:-1] if kept else ())]
    return [input.new_empty((input.shape[0], weight.shape[0])) for weight in given]


def _mlp_backward(
    _: Tensor, input: Tensor, __: Sequence[Tensor], weights: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor]:
    shapes = [input.shape, *(shape for weight in weights for shape in (weight.shape, weight.shape[:1]))]
    made = [input.new_empty(shape if asked else (0,)) for shape, asked in zip(shapes, wanted, strict=True)]
    if wanted[0]:
        made[0] = torch.empty(
            input.shape, dtype=input.dtype, device=input.device, memory_format=reference.format_of(input)
        )
    return made


for _name, _fake in (("mlp", _mlp), ("mlp_backward", _mlp_backward)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
