"""Registers convolution by Winograd's algorithm for devices without a kernel, and its shapes for tracing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.convolution import reference
from switchgrad.ops.layout import empty_in_layout_of


def _winograd_conv(input: Tensor, weight: Tensor, _: Tensor | None, padding: Sequence[int], *__: int) -> Tensor:
    rows, columns = (input.shape[2 + i] + 2 * padding[i] - weight.shape[2 + i] + 1 for i in range(2))
    return empty_in_layout_of(input, (input.shape[0], weight.shape[0], rows, columns), input.dtype)


def _winograd_conv_backward(
    _: Tensor, input: Tensor, weight: Tensor, __: Sequence[int], ___: int, input_wanted: bool, weight_wanted: bool
) -> tuple[Tensor, Tensor]:
    return (
        empty_in_layout_of(input, tuple(input.shape), input.dtype) if input_wanted else input.new_empty(0),
        empty_in_layout_of(weight, tuple(weight.shape), weight.dtype) if weight_wanted else input.new_empty(0),
    )


for _name, _fake in (("winograd_conv", _winograd_conv), ("winograd_conv_backward", _winograd_conv_backward)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
