"""Hinge loss: the support vector machine's, for several classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.reference.loss.cross_entropy import one_hot

Kept = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Hinge:
    """``J = sum over j != y of max(0, s_j - s_y + margin)``, the mean over the examples.

    Every wrong class should score less than the right one by the margin. Backward: ``delta / N`` to each wrong score
    within the margin (nothing where it is met exactly), and their sum, negative, to the right one.

    With one score s and labels of 1 and -1 this is ``max(0, 1 - y s)``: give the scores ``[0, s]`` as two classes.

    Weston, Watkins: Support vector machines for multi-class pattern recognition (1999).

    >>> J, kept = Hinge().forward(torch.tensor([[2.5, 2.0, -3.0]]), torch.tensor([1]))
    >>> J.item(), Hinge().backward(torch.tensor(1.0), kept)[0].tolist()
    (1.5, [[1.0, -1.0, 0.0]])
    """

    margin: float = 1.0

    def forward(self, s: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        """``s [N, C] scores, y [N] classes 0 to C - 1 -> J []``."""
        right = one_hot(y, s)
        excess = s - (s * right).sum(1, keepdim=True) + self.margin * (1 - right)
        return torch.clamp(excess, min=0).sum() / len(s), (excess, right)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, None]:
        """``delta [] -> ds [N, C], None``."""
        excess, right = kept
        wrong = (excess > 0).to(excess.dtype)
        return delta * (wrong - right * wrong.sum(1, keepdim=True)) / len(right), None
