"""Registers fully connected layers for devices without a kernel, and their shapes for tracing."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.fully_connected import reference


def _linear(input: Tensor, weight: Tensor, _: Tensor | None, __: bool) -> Tensor:
    return input.new_empty((input.shape[0], weight.shape[0]))


def _linear_backward(
    _: Tensor,
    __: Tensor | None,
    input: Tensor,
    weight: Tensor,
    input_wanted: bool,
    weight_wanted: bool,
    bias_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        input.new_empty(input.shape if input_wanted else (0,)),
        weight.new_empty(weight.shape if weight_wanted else (0,)),
        weight.new_empty(weight.shape[:1] if bias_wanted else (0,)),
    )


for _name, _fake in (("linear", _linear), ("linear_backward", _linear_backward)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
