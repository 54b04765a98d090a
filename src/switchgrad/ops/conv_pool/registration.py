"""Registers fused convolution and max pooling for devices without a kernel, and its shapes for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import window_of
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.conv_pool import reference
from switchgrad.ops.layout import code_dtype, empty_in_layout_of


def _conv_max_pool(
    input: Tensor,
    weight: Tensor,
    _: Tensor | None,
    conv_stride: Sequence[int],
    conv_padding: Sequence[int],
    numbers: Sequence[int],
    __: bool,
) -> tuple[Tensor, Tensor]:
    window = window_of(numbers)
    rows, columns = (
        (input.shape[2 + i] + conv_padding[2 * i] + conv_padding[2 * i + 1] - weight.shape[2 + i]) // conv_stride[i] + 1
        for i in range(2)
    )
    shape = (input.shape[0], weight.shape[0], *window.output_size((rows, columns)))
    # The codes stay in the layout that the kernel writes: only its own backward reads them.
    dtype, last = code_dtype(window.cells), torch.channels_last
    if input.shape[1] == 1:
        values = torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=last)
    else:
        values = empty_in_layout_of(input, shape, input.dtype)
    if input.device.type == "cuda":
        return values, torch.empty_like(values, dtype=dtype)
    return values, torch.empty(shape, dtype=dtype, device=input.device, memory_format=last)


def _conv_max_pool_backward(
    _: Tensor, __: Tensor, input: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    input_wanted, weight_wanted, bias_wanted = rest[-3:]
    return (
        empty_in_layout_of(input, tuple(input.shape), input.dtype) if input_wanted else input.new_empty(0),
        empty_in_layout_of(weight, tuple(weight.shape), weight.dtype)
        if weight_wanted or bias_wanted
        else weight.new_empty(0),
        weight.new_empty(weight.shape[0] if bias_wanted else 0),
    )


for _name, _fake in (("conv_max_pool", _conv_max_pool), ("conv_max_pool_backward", _conv_max_pool_backward)):
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
