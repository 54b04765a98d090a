"""Rectified linear unit: thresholds at zero."""

from __future__ import annotations

import torch
from torch import Tensor


class ReLU:
    """``a = max(0, z)``.

    Backward: ``dz = delta (.) 1{z > 0}``: the gradient passes only where the input was positive, so at 0 it is 0.

    >>> a, kept = ReLU().forward(torch.tensor([-2.0, 0.0, 3.0]))
    >>> a.tolist(), ReLU().backward(torch.ones(3), kept)[0].tolist()
    ([0.0, 0.0, 3.0], [0.0, 0.0, 1.0])
    """

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z [*] -> a [*]``."""
        positive = z > 0
        return torch.clamp(z, min=0.0), positive

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor]:
        """``delta [*] -> dz [*]``."""
        positive = kept
        return (torch.where(positive, delta, 0.0),)
