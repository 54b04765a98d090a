"""Registers dropout for devices without a kernel of their own, and its shapes for tracing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.dropout import reference


def _like(input: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(input, memory_format=torch.contiguous_format)


for _name in ("dropout", "bias_relu_dropout"):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _like, lib=LIBRARY)
