"""The independently recurrent cell: each unit sees itself, one step old, and no other."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class IndRNN:
    """``h' = max(0, W x + u (.) h + b)`` with a vector ``u``: one recurrent weight a unit.

    Backward, with ``delta_a = delta (.) 1{h' > 0}``: ``dx = W^T delta_a``, ``dh = u (.) delta_a``,
    ``dW = delta_a x^T``, ``du = delta_a (.) h``, ``db = delta_a``, the last three summed over the examples. Through T
    steps a unit's error is multiplied by ``u^T`` of that unit alone, a number to the T-th power: kept near 1 it lasts.

    S. Li, W. Li, C. Cook, C. Zhu, Y. Gao: Independently recurrent neural network (IndRNN), 2018.

    >>> h, kept = IndRNN().forward(*(torch.tensor(v) for v in ([[1.0]], [[2.0]], [[0.5]], [0.25], [1.0])))
    >>> h.item(), [g.item() for g in IndRNN().backward(torch.tensor([[1.0]]), kept)]
    (2.0, [0.5, 0.25, 1.0, 2.0, 1.0])
    """

    def forward(self, x: Tensor, h: Tensor, W: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, I], h [N, H], W [H, I], u [H], b [H] -> h' [N, H]``."""
        expect("the input of a recurrent cell", x.shape, (len(h), W.shape[1]))
        expect("its state", h.shape, (len(x), len(u)))
        a = x @ W.T + u * h + b
        return torch.clamp(a, min=0.0), (x, h, W, u, a > 0)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """``delta [N, H] -> dx [N, I], dh [N, H], dW [H, I], du [H], db [H]``."""
        x, h, W, u, positive = kept
        delta_a = torch.where(positive, delta, 0.0)
        return delta_a @ W, u * delta_a, delta_a.T @ x, (delta_a * h).sum(0), delta_a.sum(0)

    def output(self, h: Tensor) -> Tensor:
        """All of the state."""
        return h
