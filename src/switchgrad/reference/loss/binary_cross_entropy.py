"""Binary cross-entropy of a sigmoid: logistic regression's loss."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor]


class BinaryCrossEntropy:
    """``J = -y log a - (1 - y) log(1 - a)`` with ``a = sigma(z)``, the mean over all numbers; y is 0 or 1, or between.

    Written as ``max(z, 0) - z y + log(1 + e^-|z|)``, which is the same and never takes the logarithm of 0. Backward:
    ``dz = delta (a - y) / m``.

    >>> J, kept = BinaryCrossEntropy().forward(torch.tensor([0.0]), torch.tensor([1.0]))
    >>> round(J.item(), 4), BinaryCrossEntropy().backward(torch.tensor(1.0), kept)[0].tolist()
    (0.6931, [-0.5])
    """

    def forward(self, z: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        """``z [*], y [*] -> J []``."""
        expect("the target", y.shape, z.shape)
        return (torch.clamp(z, min=0) - z * y + torch.log1p(torch.exp(-abs(z)))).sum() / z.numel(), (z, y)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, None]:
        """``delta [] -> dz [*], None``."""
        z, y = kept
        a = 1 / (1 + torch.exp(-z))
        return delta * (a - y) / z.numel(), None
