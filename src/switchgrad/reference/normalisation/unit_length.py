"""Embeddings brought to unit length."""

from __future__ import annotations

import torch
from torch import Tensor

Kept = tuple[Tensor, Tensor]


class UnitLength:
    """``f = e / ||e||`` for each example.

    Backward: length no longer matters, so the part of delta along f is taken away:
    ``de = (delta - f (f . delta)) / ||e||``. An embedding of length 0 has no direction, and gives NaN.

    >>> f, kept = UnitLength().forward(torch.tensor([[3.0, 4.0]]))
    >>> f.tolist(), UnitLength().backward(f, kept)[0].abs().max() < 1e-6
    ([[0.6..., 0.8...]], tensor(True))
    """

    def forward(self, e: Tensor) -> tuple[Tensor, Kept]:
        """``e [N, D] -> f [N, D]``."""
        length = torch.sqrt((e**2).sum(1, keepdim=True))
        return e / length, (e / length, length)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, D] -> de [N, D]``."""
        f, length = kept
        return ((delta - f * (f * delta).sum(1, keepdim=True)) / length,)
