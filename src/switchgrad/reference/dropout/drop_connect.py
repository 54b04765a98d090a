"""DropConnect: connections left out at random, where dropout leaves out units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.reference.dropout.dropout import expect_probability
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class DropConnect:
    """``z = ((M (.) W) a + m (.) b) / (1 - p)``: masks on weights and biases, others for each example.

    Dividing by ``1 - p`` keeps the mean, so that evaluation is `Linear` (the paper does not divide, and approximates
    the evaluation by a normal distribution instead). Backward: ``da = (M (.) W)^T delta / (1 - p)``; ``dW`` is the
    sum over the examples of ``M (.) delta a^T / (1 - p)``: a connection that was out learns nothing.

    Wan, Zeiler, Zhang, LeCun, Fergus: Regularization of neural networks using DropConnect (2013).

    >>> a, W, b = torch.tensor([[3.0, 4.0]]), torch.ones(1, 2), torch.ones(1)
    >>> DropConnect(0.5).forward(a, W, b, torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.0]]))[0].item()
    6.0
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        expect_probability(self.p)

    def draw(self, a: Tensor, W: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Masks M and m for every example: ``a [N, I], W [O, I] -> [N, O, I], [N, O]``."""
        size = len(a), W.shape[0], W.shape[1] + 1  # a bias is one more connection
        mask = (torch.rand(size, generator=generator, dtype=W.dtype, device=W.device) >= self.p).to(W.dtype)
        return mask[:, :, 1:], mask[:, :, 0]

    def forward(self, a: Tensor, W: Tensor, b: Tensor, M: Tensor, m: Tensor) -> tuple[Tensor, Kept]:
        """``a [N, I], W [O, I], b [O], M [N, O, I], m [N, O] -> z [N, O]``."""
        expect("the input", a.shape, (None, W.shape[1]))
        expect("the bias", b.shape, W.shape[:1])
        expect("the mask of the weights", M.shape, (len(a), *W.shape))
        expect("the mask of the biases", m.shape, (len(a), *b.shape))
        left, left_b = M / (1 - self.p), m / (1 - self.p)
        return torch.einsum("noi,oi,ni->no", left, W, a) + left_b * b, (a, W, left, left_b)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """``delta [N, O] -> da [N, I], dW [O, I], db [O], None, None``."""
        a, W, left, left_b = kept
        da = torch.einsum("noi,oi,no->ni", left, W, delta)
        dW = torch.einsum("noi,no,ni->oi", left, delta, a)
        return da, dW, (left_b * delta).sum(0), None, None
