"""DropConnect: connections left out at random, where dropout leaves out units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.reference.dropout.dropout import expect_probability
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class DropConnect:
    """``z = (M (.) W) a / (1 - p) + b``: a linear layer with a mask M on its weights, another for each example.

    Dividing by ``1 - p`` keeps the mean, so that evaluation is `Linear` (the paper does not divide, and approximates
    the evaluation by a normal distribution instead). Backward: ``da = (M (.) W)^T delta / (1 - p)``; ``dW`` is the
    sum over the examples of ``M (.) delta a^T / (1 - p)``: a connection that was out learns nothing.

    Wan, Zeiler, Zhang, LeCun, Fergus: Regularization of neural networks using DropConnect (2013).

    >>> a, W, mask = torch.tensor([[3.0, 4.0]]), torch.ones(1, 2), torch.tensor([[[1.0, 0.0]]])
    >>> DropConnect(0.5).forward(a, W, torch.zeros(1), mask)[0].item()
    6.0
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        expect_probability(self.p)

    def draw(self, a: Tensor, W: Tensor, generator: torch.Generator) -> Tensor:
        """A mask for every example: ``a [N, I], W [O, I] -> [N, O, I]``."""
        return (torch.rand(len(a), *W.shape, generator=generator, dtype=W.dtype) >= self.p).to(W.dtype)

    def forward(self, a: Tensor, W: Tensor, b: Tensor, mask: Tensor) -> tuple[Tensor, Kept]:
        """``a [N, I], W [O, I], b [O], mask [N, O, I] -> z [N, O]``."""
        expect("the input", a.shape, (None, W.shape[1]))
        expect("the bias", b.shape, W.shape[:1])
        expect("the mask", mask.shape, (len(a), *W.shape))
        left = mask / (1 - self.p)
        return torch.einsum("noi,oi,ni->no", left, W, a) + b, (a, W, left)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor, None]:
        """``delta [N, O] -> da [N, I], dW [O, I], db [O], None``."""
        a, W, left = kept
        da = torch.einsum("noi,oi,no->ni", left, W, delta)
        return da, torch.einsum("noi,no,ni->oi", left, delta, a), delta.sum(0), None
