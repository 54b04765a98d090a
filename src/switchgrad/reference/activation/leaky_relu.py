"""Leaky ReLU: a small slope where ReLU is flat, so that no unit dies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LeakyReLU:
    """``a = 1{z < 0} alpha z + 1{z >= 0} z``.

    Backward: ``dz = delta`` where the input was positive, ``alpha delta`` elsewhere; at 0 it is ``alpha delta``, so
    that alpha = 0 is `ReLU`.

    >>> a, kept = LeakyReLU(0.5).forward(torch.tensor([-2.0, 0.0, 3.0]))
    >>> a.tolist(), LeakyReLU(0.5).backward(torch.ones(3), kept)[0].tolist()
    ([-1.0, 0.0, 3.0], [0.5, 0.5, 1.0])
    """

    alpha: float = 0.01

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z [*] -> a [*]``."""
        slope = torch.where(z > 0, torch.ones_like(z), self.alpha)
        return slope * z, slope

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor]:
        """``delta [*] -> dz [*]``."""
        slope = kept
        return (delta * slope,)
