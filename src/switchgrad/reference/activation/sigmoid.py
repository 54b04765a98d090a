"""Sigmoid: squashes every number into (0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor


class Sigmoid:
    """``a = sigma(z) = 1 / (1 + e^-z)``.

    Backward: ``dz = delta (.) sigma'(z)`` with ``sigma'(z) = a (1 - a)``, at most 1/4: where the unit saturates,
    hardly anything comes through.

    >>> a, kept = Sigmoid().forward(torch.tensor([0.0]))
    >>> a.item(), Sigmoid().backward(torch.tensor([1.0]), kept)[0].item()
    (0.5, 0.25)
    """

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z [*] -> a [*]``."""
        a = 1 / (1 + torch.exp(-z))
        return a, a

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor]:
        """``delta [*] -> dz [*]``."""
        a = kept
        return (delta * a * (1 - a),)
