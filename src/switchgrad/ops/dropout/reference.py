"""Dropout by a counter-based generator: what it means, in plain PyTorch.

The word of an element is a function of the seed and of the element's place in row-major order alone: Threefry-2x32 with
20 rounds gives two words for a counter; counter ``16 b + j`` serves elements ``32 b + j`` and ``32 b + 16 + j``. An
element whose word is below ``p * 2**32`` becomes 0, whatever it was; the others are divided by ``1 - p``.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_WORD = 2**32 - 1


def threefry(seed: Tensor, counter: Tensor) -> tuple[Tensor, Tensor]:
    """The two words of each counter, as int64; 64-bit arithmetic cut to 32 bits."""
    keys = [seed & _WORD, (seed >> 32) & _WORD]
    keys.append(0x1BD11BDA ^ keys[0] ^ keys[1])
    x, y = (counter + keys[0]) & _WORD, ((counter >> 32) + keys[1]) & _WORD
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            x = (x + y) & _WORD
            y = ((y << turn) | (y >> (32 - turn))) & _WORD ^ x
        x = (x + keys[(group + 1) % 3]) & _WORD
        y = (y + keys[(group + 2) % 3] + group + 1) & _WORD
    return x, y


def kept(input: Tensor, seed: Tensor, p: float) -> Tensor:
    """Which elements are kept, in the shape of the input."""
    blocks = -(-input.numel() // 32)
    words = threefry(seed.reshape(()), torch.arange(16 * blocks, device=input.device))
    drawn = torch.stack([word.reshape(blocks, 16) for word in words], 1).flatten()
    return (drawn >= min(round(p * 2**32), _WORD))[: input.numel()].reshape(input.shape)


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
