"""Dropout by a counter-based generator: what it means, in plain PyTorch.

The word of an element is a function of the seed and of the element's place in row-major order alone (`ops.counted`). An
element whose word is below ``p * 2**32`` becomes 0, whatever it was; the others are divided by ``1 - p``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.ops.counted import threshold, words


def kept(input: Tensor, seed: Tensor, p: float) -> Tensor:
    """Which elements are kept, in the shape of the input."""
    drawn = words(seed.to(input.device), input.numel())
    return (drawn >= threshold(p)).reshape(input.shape)


def dropout(input: Tensor, seed: Tensor, p: float) -> Tensor:
    """What is kept, scaled."""
    wide = input if input.dtype == torch.float64 else input.float()
    return torch.where(kept(input, seed, p), wide * (1 / (1 - p)), 0).to(input.dtype).contiguous()


def bias_relu_dropout(input: Tensor, bias: Tensor | None, seed: Tensor, p: float, axis: int) -> Tensor:
    """``dropout(relu(input + bias))``, rounded once."""
    wide = input if input.dtype == torch.float64 else input.float()
    if bias is not None:
        wide = wide + bias.to(wide.dtype).reshape(-1, *[1] * (input.dim() - 1 - axis))
    return torch.where(kept(input, seed, p), wide.relu() * (1 / (1 - p)), 0).to(input.dtype).contiguous()
