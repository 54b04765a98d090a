"""Max pooling of what a ReLU passes: what it means, in plain PyTorch.

::

    values = max_pool(relu(x))
    code   = winner's offset   where the window's maximum is above 0 or NaN
             255 (no winner)   elsewhere: the ReLU stops all gradient there

A ReLU never changes which of two numbers is the larger, so the maximum is taken first and cut off at 0 after.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.ops.layout import in_layout_of, no_winner
from switchgrad.ops.max_pool import reference as plain


def relu_max_pool(input: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and switches. A window without any cell keeps its -inf: no ReLU has seen it."""
    values, codes = plain.max_pool(input, window)
    none = no_winner(codes.dtype)
    dead = (values <= 0) & (codes != none)
    kept, codes = torch.where(dead, 0, values), torch.where(dead, none, codes).to(codes.dtype)
    return in_layout_of(input, kept), in_layout_of(input, codes)


def relu_max_pool_values(input: Tensor, window: Sequence[int]) -> Tensor:
    """Values alone."""
    return relu_max_pool(input, window)[0]
