"""Counter-based random numbers: the word of a place depends on the seed and the place alone, so none is ever stored.

Kernels draw these words where they need them, on any thread, in any order, and again in backward. What they do with
them, the same on every device (all divisions of integers are rounded down)::

    word(i)              32 bits: Threefry-2x32 with 20 rounds; the key is the seed, low word first, the counter
                         16 (i / 32) + i % 16; the first word of the two where i % 32 < 16, else the second

    dropout              i = the element's place in memory order;                kept where word(i) >= T
    max_pool_dropout     i = the input cell's row-major place in (N, C, ...);    kept where word(i) >= T
    stochastic_pool      i = the window's row-major place in (N, C, P, Q)

    T = min(round(p 2^32), 2^32 - 1)

A stochastic window is drawn in float32 (float64 where the input is that), with cells in row-major order::

    u      = (word / 2^8) 2^-24                    (float64: word 2^-32), exact, 0 <= u < 1
    best   = the window's maximum                  NaN or infinite: the winner is max pooling's, nothing is drawn
    scale  = the power of two that brings best near 1 (`unit_scale`): products with it are exact
    w_i    = max(x_i, 0) scale    where best > 0, else 1 for cells above -inf and 0 for others and for padding
    total  = ((w_0 + w_1) + w_2) + ...
    winner = the first cell at which the running sum, added up in the same order, exceeds u total
"""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.ops.checks import generator_or_none

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_WORD = 2**32 - 1


def threefry(seed: Tensor, counter: Tensor) -> tuple[Tensor, Tensor]:
    """The two words of each counter, as int64; 64-bit arithmetic cut to 32 bits.

    Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (2011).
    """
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


def words(seed: Tensor, count: int) -> Tensor:
    """The words of places 0 to ``count - 1``, as int64.

    >>> words(torch.tensor(7), 3).tolist() == words(torch.tensor(7), 100)[:3].tolist()
    True
    """
    blocks = -(-count // 32)
    pair = threefry(seed.reshape(()), torch.arange(16 * blocks, device=seed.device))
    return torch.stack([word.reshape(blocks, 16) for word in pair], 1).flatten()[:count]


def threshold(p: float) -> int:
    """Words below it are dropped."""
    return min(round(p * 2**32), _WORD)


def uniform(drawn: Tensor, dtype: torch.dtype) -> Tensor:
    """Words as numbers in [0, 1): 24 bits of them as float32, all 32 as float64; exact."""
    return drawn.to(dtype) * 2.0**-32 if dtype == torch.float64 else (drawn >> 8).to(dtype) * 2.0**-24


def unit_scale(best: Tensor) -> Tensor:
    """The power of two that brings positive finite numbers of float32 or float64 near 1.

    Its exponent bits are 254 - E with E the number's own (float64: 2046 - E), and at least 1. Multiplying by it never
    overflows, and rounds only what is negligible beside ``best``.

    >>> unit_scale(torch.tensor([3.0, 0.25])).tolist()
    [0.5, 4.0]
    """
    integer, mantissa, most = (torch.int64, 52, 2046) if best.dtype == torch.float64 else (torch.int32, 23, 254)
    exponent = (best.view(integer) >> mantissa) & (most + 1)
    return ((most - exponent).clamp_min(1) << mantissa).view(best.dtype)


def new_seed(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """One int64 number on ``device``: from ``generator``, or from PyTorch's own of that device.

    It is drawn where it is needed, so that nobody waits for a copy and a CUDA graph draws another at each replay.
    """
    source = generator_or_none(generator)
    where = device if source is None else source.device
    return torch.randint(2**63 - 1, (), generator=generator, device=where).to(device)
