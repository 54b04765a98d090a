"""Maxout: the largest of several linear maps of the input."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor]


class Maxout:
    """``y = max(w1^T x + b1, ..., wJ^T x + bJ)`` for every output unit.

    Backward: as in max pooling, the number of the winning piece is noted (a tie goes to the first), and the whole
    gradient goes through that piece alone: ``dw_j = delta x`` where j won, 0 elsewhere. With J = 2 and one piece held
    at 0 it is `ReLU`; units do not die, at twice the parameters.

    Goodfellow, Warde-Farley, Mirza, Courville, Bengio: Maxout networks (2013).

    >>> x, W, b = torch.tensor([[2.0]]), torch.tensor([[[1.0]], [[-1.0]]]), torch.zeros(2, 1)
    >>> y, kept = Maxout().forward(x, W, b)
    >>> y.item(), Maxout().backward(torch.ones(1, 1), kept)[1].flatten().tolist()
    (2.0, [2.0, 0.0])
    """

    def forward(self, x: Tensor, W: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, I], W [J, O, I], b [J, O] -> y [N, O]``."""
        expect("the input of maxout", x.shape, (None, W.shape[2]))
        expect("the bias", b.shape, W.shape[:2])
        z = torch.einsum("joi,ni->jno", W, x) + b[:, None]
        largest = z.amax(0)
        first = torch.cumsum(z == largest, 0) == 1
        won = first & (z == largest)  # [J, N, O]
        return largest, (x, W, won)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, O] -> dx [N, I], dW [J, O, I], db [J, O]``."""
        x, W, won = kept
        routed = torch.where(won, delta, 0.0)
        dx = torch.einsum("jno,joi->ni", routed, W)
        return dx, torch.einsum("jno,ni->joi", routed, x), routed.sum(1)
