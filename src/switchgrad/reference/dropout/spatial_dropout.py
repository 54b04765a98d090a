"""Spatial dropout: whole maps left out, since neighbouring pixels of a map say much the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.reference.dropout.dropout import expect_probability
from switchgrad.reference.sizes import expect


@dataclass(frozen=True)
class SpatialDropout:
    """``y[n, c] = m[n, c] x[n, c] / (1 - p)``: one number of the mask for each map of each example.

    Backward: through the same mask. Left out at evaluation, as `Dropout` is.

    Tompson, Goroshin, Jain, LeCun, Bregler: Efficient object localization using convolutional networks (2015).

    >>> SpatialDropout(0.5).forward(torch.ones(1, 2, 3), torch.tensor([[1.0, 0.0]]))[0].tolist()
    [[[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        expect_probability(self.p)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A mask for ``x [N, C, *H]``: one Bernoulli number a map."""
        return (torch.rand(x.shape[:2], generator=generator, dtype=x.dtype, device=x.device) >= self.p).to(x.dtype)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``x [N, C, *H], mask [N, C] -> y [N, C, *H]``."""
        expect("the mask", mask.shape, x.shape[:2])
        whole = mask.reshape(*mask.shape, *(1,) * (x.dim() - 2))
        return x * whole / (1 - self.p), whole

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor, None]:
        """``delta [N, C, *H] -> dx [N, C, *H], None``."""
        whole = kept
        return delta * whole / (1 - self.p), None
