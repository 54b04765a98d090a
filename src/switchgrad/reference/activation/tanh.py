"""Hyperbolic tangent: squashes every number into (-1, 1), 0 stays 0."""

from __future__ import annotations

import torch
from torch import Tensor


class Tanh:
    """``a = tanh(z) = 2 sigma(2 z) - 1``.

    Backward: ``dz = delta (.) (1 - a^2)``.

    >>> a, kept = Tanh().forward(torch.tensor([0.0]))
    >>> a.item(), Tanh().backward(torch.tensor([1.0]), kept)[0].item()
    (0.0, 1.0)
    """

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z [*] -> a [*]``."""
        a = torch.tanh(z)
        return a, a

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor]:
        """``delta [*] -> dz [*]``."""
        a = kept
        return (delta * (1 - a * a),)
