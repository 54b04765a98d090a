"""Registers what max pooling means for devices without a kernel of their own, and its shapes for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import window_of
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.layout import code_dtype, empty_in_layout_of
from switchgrad.ops.max_pool import reference


def max_pool_shapes(input: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and codes of the right shape and layout."""
    win = window_of(window)
    shape = (*input.shape[: -win.dims], *win.output_size(input.shape[-win.dims :]))
    return (
        empty_in_layout_of(input, shape, input.dtype),
        empty_in_layout_of(input, shape, code_dtype(win.cells)),
    )


def max_pool_values_shapes(input: Tensor, window: Sequence[int]) -> Tensor:
    """Values of the right shape and layout."""
    return max_pool_shapes(input, window)[0]


def _max_pool_route(pooled: Tensor, codes: Tensor, input_size: Sequence[int], *_: Any) -> Tensor:
    return empty_in_layout_of(codes, (*codes.shape[: -len(input_size)], *input_size), pooled.dtype)


def _max_pool_gather(input: Tensor, codes: Tensor, *_: Any) -> Tensor:
    return empty_in_layout_of(codes, tuple(codes.shape), input.dtype)


def _max_pool_indices(codes: Tensor, *_: Any) -> Tensor:
    return empty_in_layout_of(codes, tuple(codes.shape), torch.int64)


def _max_unpool(values: Tensor, _: Tensor, output_size: Sequence[int]) -> Tensor:
    return values.new_empty((*values.shape[: -len(output_size)], *output_size))


def _max_unpool_pick(tensor: Tensor, indices: Tensor, _: int) -> Tensor:
    return tensor.new_empty(indices.shape)


_FAKES = {
    "max_pool": max_pool_shapes,
    "max_pool_values": max_pool_values_shapes,
    "max_pool_route": _max_pool_route,
    "max_pool_gather": _max_pool_gather,
    "max_pool_indices": _max_pool_indices,
    "max_unpool": _max_unpool,
    "max_unpool_pick": _max_unpool_pick,
}
for _name, _fake in _FAKES.items():
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
