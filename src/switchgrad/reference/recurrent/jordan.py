"""Jordan's cell: the hidden layer sees the network's last output."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Jordan:
    """``h = tanh(W x + U y + b)``, ``y' = tanh(V h + c)``: the state is the output ``y``.

    Backward, from ``delta = dJ/dy'``: ``delta_o = delta (.) (1 - y'^2)``, ``delta_a = V^T delta_o (.) (1 - h^2)``; then
    ``dx = W^T delta_a``, ``dy = U^T delta_a``, and for the weights ``dW = delta_a x^T``, ``dU = delta_a y^T``,
    ``db = delta_a``, ``dV = delta_o h^T``, ``dc = delta_o``, summed over the examples.

    M. Jordan: Serial order: a parallel distributed processing approach, 1986 (without decay of the state).

    >>> one, zero = torch.ones(1, 1), torch.zeros(1)
    >>> y, kept = Jordan().forward(0 * one, 0 * one, one, 2 * one, zero, 3 * one, zero)
    >>> y.item(), [g.item() for g in Jordan().backward(one, kept)]
    (0.0, [3.0, 6.0, 0.0, 0.0, 3.0, 0.0, 1.0])
    """

    def forward(
        self, x: Tensor, y: Tensor, W: Tensor, U: Tensor, b: Tensor, V: Tensor, c: Tensor
    ) -> tuple[Tensor, Kept]:
        """``x [N, I], y [N, O], W [H, I], U [H, O], b [H], V [O, H], c [O] -> y' [N, O]``."""
        expect("the input of a recurrent cell", x.shape, (len(y), W.shape[1]))
        expect("its state", y.shape, (len(x), len(V)))
        h = torch.tanh(x @ W.T + y @ U.T + b)
        following = torch.tanh(h @ V.T + c)
        return following, (x, y, W, U, V, h, following)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, ...]:
        """``delta [N, O] -> dx, dy, dW, dU, db, dV, dc``, each of the shape of its argument."""
        x, y, W, U, V, h, following = kept
        delta_o = delta * (1 - following**2)
        delta_a = delta_o @ V * (1 - h**2)
        weights = delta_a.T @ x, delta_a.T @ y, delta_a.sum(0), delta_o.T @ h, delta_o.sum(0)
        return delta_a @ W, delta_a @ U, *weights

    def output(self, y: Tensor) -> Tensor:
        """All of the state."""
        return y
