"""Registers softmax cross entropy for devices without a kernel of their own, and its shapes for tracing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.cross_entropy import reference


def _values(input: Tensor, *args: Any) -> Tensor:
    return input.new_empty((input.shape[0],) if args[-1] == reference.NONE else ())


def _both(input: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return _values(input, *args), input.new_empty(tuple(input.shape))


for _name, _fake in (("cross_entropy", _both), ("cross_entropy_values", _values)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
