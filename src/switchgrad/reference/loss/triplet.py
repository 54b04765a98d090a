"""Triplet loss: an anchor should lie nearer to its own kind than to another, by a margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Triplet:
    """``J = max(0, d(A, P) - d(A, N) + margin)`` with ``d(A, B) = ||A - B||^2``, the mean over the examples.

    A, P and N are embeddings of unit length (`UnitLength` makes them so), for which d lies between 0 and 4 and the
    margin of 0.2 is meant. Backward, for triplets that fall short of the margin (others get 0):
    ``dA = 2 (N - P)``, ``dP = 2 (P - A)`` and ``dN = 2 (A - N)``, times ``delta / N``.

    Schroff, Kalenichenko, Philbin: FaceNet (2015).

    >>> A, P, N = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    >>> Triplet().forward(A, P, N)[0].item()
    0.0
    >>> round(Triplet().forward(A, N, P)[0].item(), 4)  # 4 - 2 + 0.2
    2.2
    """

    margin: float = 0.2

    def forward(self, A: Tensor, P: Tensor, N: Tensor) -> tuple[Tensor, Kept]:
        """``A [N, D] anchors, P [N, D] of their kind, N [N, D] of another -> J []``."""
        expect("the positive", P.shape, A.shape)
        expect("the negative", N.shape, A.shape)
        short = ((A - P) ** 2).sum(1) - ((A - N) ** 2).sum(1) + self.margin
        return torch.clamp(short, min=0).sum() / len(A), (A, P, N, short > 0)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [] -> dA, dP, dN [N, D]``."""
        A, P, N, falls_short = kept
        share = torch.where(falls_short, delta / len(A), 0.0)[:, None]
        return share * 2 * (N - P), share * 2 * (P - A), share * 2 * (A - N)
