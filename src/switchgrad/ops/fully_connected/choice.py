"""Which way a fully connected layer is computed: by our kernels, or by PyTorch's products of matrices."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.routing import is_transformed

Algorithm = Literal["auto", "direct", "streamed"]

# Measured: weights of so many numbers and more, and the batches for which our kernels are quicker: from so many rows to
# so many. The larger the weight, the longer a thin product waits for memory; a product of many rows does not.
_QUICKER = ((1 << 22, 1, 512), (1 << 20, 1, 128), (1 << 17, 2, 32))
_FEWEST_SIDE = 64  # inputs and outputs; with fewer, packing the batch is too much of the work


def check_algorithm(algorithm: str) -> None:
    """Refuse an algorithm that there is not."""
    if algorithm not in get_args(Algorithm):
        raise GeometryError(f"algorithm is {algorithm!r}; give one of {', '.join(get_args(Algorithm))}")


def is_large(weight: Tensor) -> bool:
    """Whether our kernels gain on ``weight`` for any batch."""
    return weight.numel() >= _QUICKER[-1][0] and min(weight.shape) >= _FEWEST_SIDE


def is_streamed(rows: int, weight: Tensor, algorithm: Algorithm) -> bool:
    """Whether our kernels take a batch of ``rows`` through ``weight``."""
    if algorithm != "auto":
        return algorithm == "streamed"
    if not is_large(weight):
        return False
    fewest, most = next(batches for size, *batches in _QUICKER if weight.numel() >= size)
    return fewest <= rows <= most


def is_beyond_kernels() -> bool:
    """Whether a mode is on in which calls are PyTorch's own: autocast, forward mode, a transform of torch.func."""
    return torch.is_autocast_enabled("cpu") or is_transformed()


def obstacle(input: Tensor, weight: Tensor) -> str | None:
    """Why our kernels cannot serve this call; None where they can."""
    if input.dtype not in (torch.float32, torch.float64) or weight.dtype != input.dtype:
        return f"the kernels take float32 or float64, and these are {input.dtype} and {weight.dtype}"
    if input.device.type != "cpu" or weight.device.type != "cpu":
        return f"the kernels are for the CPU, and this is {input.device}"
    return None
