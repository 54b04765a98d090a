"""Exponential linear unit: bends smoothly towards -alpha where ReLU is flat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ELU:
    """``a = z`` where z > 0, ``alpha (e^z - 1)`` elsewhere.

    Backward: ``dz = delta`` where z > 0, ``delta alpha e^z`` elsewhere (``alpha delta`` at 0).

    Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by exponential linear units (2016).

    >>> ELU().forward(torch.tensor([-1000.0, 0.0, 3.0]))[0].tolist()
    [-1.0, 0.0, 3.0]
    """

    alpha: float = 1.0

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z [*] -> a [*]``."""
        return torch.where(z > 0, z, self.alpha * torch.expm1(z)), z

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor]:
        """``delta [*] -> dz [*]``."""
        z = kept
        return (torch.where(z > 0, delta, delta * self.alpha * torch.exp(z)),)
