"""Registers the fused batch normalisations for devices without a kernel of their own, and their shapes for tracing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.batch_norm import reference
from switchgrad.ops.layout import empty_in_layout_of
from switchgrad.ops.max_pool.registration import max_pool_shapes


def _statistics(input: Tensor) -> Tensor:
    return input.new_empty((2, input.shape[1]), dtype=torch.float64)


def _batch_norm_relu(input: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return empty_in_layout_of(input, tuple(input.shape), input.dtype), _statistics(input)


def _max_pool(input: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return (*max_pool_shapes(input, args[6]), _statistics(input))


def _max_pool_values(input: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return max_pool_shapes(input, args[6])[0], _statistics(input)


def _gradients(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    of_channels = (input.new_empty((input.shape[1],), dtype=wide if t is None else t.dtype) for t in (weight, bias))
    of_weight, of_bias = of_channels
    return empty_in_layout_of(input, tuple(input.shape), input.dtype), of_weight, of_bias


def _backward(_: Tensor, input: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(input, args[0], args[1])


def _max_pool_backward(_: Tensor, input: Tensor, __: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(input, args[0], args[1])


def _move(*_: Any) -> None:
    return None


_FAKES = {
    "batch_norm_move": _move,
    "batch_norm_relu": _batch_norm_relu,
    "batch_norm_relu_backward": _backward,
    "batch_norm_relu_max_pool": _max_pool,
    "batch_norm_relu_max_pool_values": _max_pool_values,
    "batch_norm_relu_max_pool_backward": _max_pool_backward,
}
for _name, _fake in _FAKES.items():
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
