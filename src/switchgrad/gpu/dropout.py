"""Dropout on CUDA: the masks of the CPU, drawn by `dropout_kernels`."""

from __future__ import annotations

import math

from torch import Tensor

from switchgrad.gpu import dropout_kernels as kernels
from switchgrad.gpu.launch import accumulator, launch

_BLOCKS = 32  # times 32 elements: 1024 of a program
_MOST = 2**32 - 1


def dropout(input: Tensor, seed: Tensor, p: float) -> Tensor:
    """What is kept, scaled; contiguous."""
    return _drop(input, None, seed, p, 0, relu=False)


def bias_relu_dropout(input: Tensor, bias: Tensor | None, seed: Tensor, p: float, axis: int) -> Tensor:
    """``dropout(relu(input + bias))``; contiguous."""
    return _drop(input, bias, seed, p, axis, relu=True)


def _drop(input: Tensor, bias: Tensor | None, seed: Tensor, p: float, axis: int, *, relu: bool) -> Tensor:
    given = input.contiguous()
    output = given.new_empty(given.shape)
    count = given.numel()
    launch(
        kernels.drop,
        (-(-count // (32 * _BLOCKS)),),
        given,
        None if bias is None else bias.contiguous(),
        output,
        seed,
        count,
        math.prod(given.shape[axis + 1 :]),
        1 if bias is None else len(bias),
        THRESHOLD=min(round(p * 2**32), _MOST),
        SCALE=1 / (1 - p),
        RELU=relu,
        ACC=accumulator(given.dtype),
        BLOCKS=_BLOCKS,
    )
    return output
