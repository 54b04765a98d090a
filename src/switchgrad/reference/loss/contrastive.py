"""Contrastive loss: pairs of the same kind are pulled together, others pushed apart up to a margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Contrastive:
    """``J = y 1/2 d^2 + (1 - y) 1/2 max(0, margin - d)^2`` with ``d = ||f1 - f2||``, the mean over the pairs.

    y is 1 where both show the same person, 0 where not (the paper has it the other way round). Backward: with
    ``u = (f1 - f2) / d``, ``df1 = (y d - (1 - y) max(0, margin - d)) u delta / N`` and ``df2 = -df1``; where d is 0,
    there is no direction to push in, and the gradient is 0.

    Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping (2006).

    >>> f1, f2 = torch.zeros(2, 1), torch.tensor([[3.0], [0.5]])
    >>> J, kept = Contrastive().forward(f1, f2, torch.tensor([1.0, 0.0]))  # 4.5 and 0.125
    >>> J.item(), Contrastive().backward(torch.tensor(1.0), kept)[0].flatten().tolist()
    (2.3125, [-1.5, 0.25])
    """

    margin: float = 1.0

    def forward(self, f1: Tensor, f2: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        """``f1 [N, D], f2 [N, D], y [N] -> J []``."""
        expect("the second embedding", f2.shape, f1.shape)
        expect("the label", y.shape, f1.shape[:1])
        d = torch.sqrt(((f1 - f2) ** 2).sum(1))
        gap = torch.clamp(self.margin - d, min=0)
        return (y * d**2 + (1 - y) * gap**2).sum() / (2 * len(y)), (f1 - f2, d, gap, y)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, None]:
        """``delta [] -> df1 [N, D], df2 [N, D], None``."""
        difference, d, gap, y = kept
        pull = torch.where(d > 0, (y * d - (1 - y) * gap) / d, 0.0)
        df1 = delta * pull[:, None] * difference / len(y)
        return df1, -df1, None
