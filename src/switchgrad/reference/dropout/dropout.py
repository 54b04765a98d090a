"""Dropout: units left out at random, so that none relies on another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.reference.sizes import expect


@dataclass(frozen=True)
class Dropout:
    """``y = m (.) x / (1 - p)`` with a mask m of zeros (with probability p) and ones, drawn by `draw`.

    Dividing by ``1 - p`` keeps the mean, so at evaluation dropout is left out altogether. Backward: through the same
    mask, ``dx = m (.) delta / (1 - p)``.

    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout (2014).

    >>> Dropout(0.5).forward(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]))[0].tolist()
    [[6.0, 0.0]]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        expect_probability(self.p)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A mask for ``x [*]``: one Bernoulli number a unit."""
        return (torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) >= self.p).to(x.dtype)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``x [*], mask [*] -> y [*]``."""
        expect("the mask", mask.shape, x.shape)
        return x * mask / (1 - self.p), mask

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor, None]:
        """``delta [*] -> dx [*], None``."""
        mask = kept
        return delta * mask / (1 - self.p), None


def expect_probability(p: float) -> None:
    """Refuse what is no probability, and 1, which would leave nothing."""
    if not 0 <= p < 1:
        raise GeometryError(f"p is {p}; the probability of leaving out is at least 0 and below 1")
