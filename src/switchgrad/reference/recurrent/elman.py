"""Elman's cell: the hidden layer sees a copy of itself, one step old."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Elman:
    """``h' = tanh(W x + U h + b)``: the state is the hidden layer, what ``torch.nn.RNN`` computes.

    Backward, with ``delta_a = delta (.) (1 - h'^2)`` the error before the tanh: ``dx = W^T delta_a``,
    ``dh = U^T delta_a``, ``dW = delta_a x^T``, ``dU = delta_a h^T``, ``db = delta_a``, the last three summed over the
    examples. Through T steps the error is multiplied by T matrices ``U^T diag(1 - h^2)``: it vanishes or explodes.

    J. Elman: Finding structure in time, 1990.

    >>> h, kept = Elman().forward(*(torch.tensor(v) for v in ([[1.0]], [[2.0]], [[0.5]], [[0.25]], [-1.0])))
    >>> h.item(), [g.item() for g in Elman().backward(torch.tensor([[1.0]]), kept)]
    (0.0, [0.5, 0.25, 1.0, 2.0, 1.0])
    """

    def forward(self, x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, I], h [N, H], W [H, I], U [H, H], b [H] -> h' [N, H]``."""
        expect("the input of a recurrent cell", x.shape, (len(h), W.shape[1]))
        expect("its state", h.shape, (len(x), len(U)))
        following = torch.tanh(x @ W.T + h @ U.T + b)
        return following, (x, h, W, U, following)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """``delta [N, H] -> dx [N, I], dh [N, H], dW [H, I], dU [H, H], db [H]``."""
        x, h, W, U, following = kept
        delta_a = delta * (1 - following**2)
        return delta_a @ W, delta_a @ U, delta_a.T @ x, delta_a.T @ h, delta_a.sum(0)

    def output(self, h: Tensor) -> Tensor:
        """All of the state."""
        return h
