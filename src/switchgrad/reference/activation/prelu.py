"""Parametric ReLU: a leaky ReLU that learns the slope of its leak, one a channel."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor]


class PReLU:
    """``a = z`` where z > 0, ``alpha[c] z`` elsewhere.

    Backward: ``dz = delta`` where z > 0, ``alpha[c] delta`` elsewhere; ``dalpha[c]`` is the sum of ``delta z`` over
    all numbers of channel c that were not positive: they share the slope.

    He, Zhang, Ren, Sun: Delving deep into rectifiers (2015).

    >>> a, kept = PReLU().forward(torch.tensor([[-2.0, 3.0]]), torch.tensor([0.5, 0.5]))
    >>> a.tolist(), PReLU().backward(torch.ones(1, 2), kept)[1].tolist()
    ([[-1.0, 3.0]], [-2.0, 0.0])
    """

    def forward(self, z: Tensor, alpha: Tensor) -> tuple[Tensor, Kept]:
        """``z [N, C, *H], alpha [C] -> a [N, C, *H]``."""
        expect("alpha", alpha.shape, z.shape[1:2])
        slope = alpha.reshape(-1, *(1,) * (z.dim() - 2))
        return torch.where(z > 0, z, slope * z), (z, slope)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor]:
        """``delta [N, C, *H] -> dz [N, C, *H], dalpha [C]``."""
        z, slope = kept
        dz = torch.where(z > 0, delta, slope * delta)
        dalpha = torch.where(z > 0, 0.0, delta * z)
        return dz, dalpha.transpose(0, 1).flatten(1).sum(1)
