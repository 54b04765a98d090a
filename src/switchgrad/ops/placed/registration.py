"""Registers what pooling over windows at given places means on every device, and its shapes for tracing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.layout import code_dtype, empty_in_layout_of
from switchgrad.ops.placed import reference


def _placed_max_pool(
    input: Tensor, _starts: Tensor, _ends: Tensor | None, places: Sequence[int], kernel_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    shape = (*input.shape[: -len(places)], *places)
    codes = empty_in_layout_of(input, shape, code_dtype(math.prod(kernel_size)))
    return empty_in_layout_of(input, shape, input.dtype), codes


def _placed_max_pool_route(
    pooled: Tensor, codes: Tensor, _starts: Tensor, _ends: Tensor | None, input_size: Sequence[int], *_: Any
) -> Tensor:
    return empty_in_layout_of(codes, (*codes.shape[: -len(input_size)], *input_size), pooled.dtype)


for _name, _fake in {"placed_max_pool": _placed_max_pool, "placed_max_pool_route": _placed_max_pool_route}.items():
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
