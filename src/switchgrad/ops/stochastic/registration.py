"""Registers random pooling for devices without a kernel of their own, and its shapes for tracing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.max_pool.registration import max_pool_shapes
from switchgrad.ops.stochastic import reference


def _stochastic_pool(input: Tensor, _: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    return max_pool_shapes(input, window)


def _max_pool_dropout(input: Tensor, _: Tensor, __: float, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    return max_pool_shapes(input, window)


for _name, _fake in (("stochastic_pool", _stochastic_pool), ("max_pool_dropout", _max_pool_dropout)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
