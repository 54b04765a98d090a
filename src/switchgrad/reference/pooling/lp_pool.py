"""p-norm pooling: between the sum and the largest of the absolute values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding
from switchgrad.reference.pooling.average_pool import AveragePool
from switchgrad.reference.pooling.average_pool import Kept as KeptBySum

Kept = tuple[Tensor, Tensor, KeptBySum]


@dataclass(frozen=True)
class LpPool:
    """``y = (sum of |x_i|^p over the window)^(1/p)``: for p = 2, the L2 norm of a rectangular neighbourhood.

    A sum pooling between two powers. Backward, each cell by its part in the norm: ``dx_i = sum over the windows that
    hold i of delta sign(x_i) (|x_i| / y)^(p - 1)``, and 0 where x_i is 0, also in a window of zeros.

    >>> y, kept = LpPool(2, kernel_size=2).forward(torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]]]))
    >>> y.item(), LpPool(2, kernel_size=2).backward(torch.tensor([[[[5.0]]]]), kept)[0].tolist()
    (5.0, [[[[3.0, -4.0], [0.0, 0.0]]]])
    """

    p: float
    kernel_size: IntOrTuple
    stride: IntOrTuple | None = None
    padding: Padding = 0

    def __post_init__(self) -> None:
        if not 0 < self.p < math.inf:
            raise GeometryError(f"p is {self.p}; give a finite number above 0 (for inf there is MaxPool)")

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H] -> y [N, C, *P]``."""
        sums, kept = self._sum().forward(abs(x) ** self.p)
        y = sums ** (1 / self.p)
        return y, (x, y, kept)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, C, *P] -> dx [N, C, *H]``."""
        x, y, kept_by_sum = kept
        (shares,) = self._sum().backward(torch.where(y > 0, delta * y ** (1 - self.p), 0.0), kept_by_sum)
        return (torch.where(x == 0, 0.0, shares * torch.sign(x) * abs(x) ** (self.p - 1)),)

    def _sum(self) -> AveragePool:
        return AveragePool(self.kernel_size, self.stride, self.padding, divisor=1)
