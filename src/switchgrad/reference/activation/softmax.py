"""Softmax: real scores to values between 0 and 1 that sum to 1."""

from __future__ import annotations

import torch
from torch import Tensor


class Softmax:
    """``p_i = e^(z_i) / sum over j of e^(z_j)``, along axis 1.

    The largest score is subtracted first, which changes nothing but keeps e^z finite. Backward: every output depends
    on every score, ``dp_i/dz_j = p_i (1{i = j} - p_j)``, so ``dz = p (.) (delta - sum over j of delta_j p_j)``.

    >>> p, kept = Softmax().forward(torch.tensor([[0.0, 0.0, 1000.0]]))
    >>> p.tolist(), Softmax().backward(torch.ones(1, 3), kept)[0].tolist()
    ([[0.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]])
    """

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z [N, C, *H] -> p [N, C, *H]``."""
        e = torch.exp(z - z.amax(1, keepdim=True))
        p = e / e.sum(1, keepdim=True)
        return p, p

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor]:
        """``delta [N, C, *H] -> dz [N, C, *H]``."""
        p = kept
        return (p * (delta - (delta * p).sum(1, keepdim=True)),)
