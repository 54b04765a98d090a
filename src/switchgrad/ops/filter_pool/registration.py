"""Registers filtered windows for devices without a kernel of their own, and their shapes for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.avg_pool.registration import empty_spread
from switchgrad.ops.filter_pool import reference
from switchgrad.ops.layout import empty_in_layout_of


def _filter_pool(input: Tensor, *args: Any) -> Tensor:
    places = args[-2]
    return empty_in_layout_of(input, (*input.shape[: -len(places)], *places), input.dtype)


def _filter_pool_spread(pooled: Tensor, input_size: Sequence[int], *args: Any) -> Tensor:
    return empty_spread(pooled, input_size, args[-1])


for _name, _fake in (("filter_pool", _filter_pool), ("filter_pool_spread", _filter_pool_spread)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
