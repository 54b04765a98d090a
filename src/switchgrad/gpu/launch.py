"""Starting a kernel: on the device of its tensors, unless there is nothing to compute."""
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

_ACCUMULATORS: dict[torch.dtype, Any] = {
    torch.float16: tl.float32,
    torch.bfloat16: tl.float32,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.uint8: tl.uint8,
    torch.int8: tl.int8,
    torch.int16: tl.int16,
    torch.int32: tl.int32,
    torch.int64: tl.int64,
}


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *args: Any, **constants: Any) -> None:
    """Run ``kernel`` on ``grid`` programs. ``first`` is its first argument and says which device runs it."""
    if 0 in grid:
        return
    constants["enable_fp_fusion"] = False  # rounded as the references are, whatever the version of the compiler
    if first.is_cuda and first.get_device() != torch.cuda.current_device():
        with torch.cuda.device(first.device):
            kernel[grid](first, *args, **constants)
    else:
        kernel[grid](first, *args, **constants)


def accumulator(dtype: torch.dtype) -> Any:
    """The Triton type that numbers of a dtype are compared and added in: float32 for half precision, else their own."""
    return _ACCUMULATORS[dtype]


def lowest(dtype: torch.dtype) -> float:
    """What every cell beats or equals: -inf, or the smallest integer."""
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min
