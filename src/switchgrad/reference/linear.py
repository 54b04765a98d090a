"""Linear (fully connected) layer: every input to every output."""

from __future__ import annotations

from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor]


class Linear:
    """``z = W a + b`` for each example; examples are rows here, so ``Z = A W^T + b``.

    Backward: ``da = W^T delta``, ``dW = delta a^T`` and ``db = delta``, the last two summed over the examples.

    >>> import torch
    >>> a, W = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0]])
    >>> z, kept = Linear().forward(a, W, torch.tensor([10.0]))
    >>> z.item(), [gradient.tolist() for gradient in Linear().backward(torch.tensor([[2.0]]), kept)]
    (21.0, [[[2.0, 4.0]], [[6.0, 8.0]], [2.0]])
    """

    def forward(self, a: Tensor, W: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``a [N, I], W [O, I], b [O] -> z [N, O]``."""
        expect("the input of a linear layer", a.shape, (None, W.shape[1]))
        expect("the bias", b.shape, W.shape[:1])
        return a @ W.T + b, (a, W)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, O] -> da [N, I], dW [O, I], db [O]``."""
        a, W = kept
        return delta @ W, delta.T @ a, delta.sum(0)
