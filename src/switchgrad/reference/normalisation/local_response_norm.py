"""Local response normalisation: each number divided by the strength of its neighbours in depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Kept = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class LocalResponseNorm:
    r"""Competition between the n channels around each channel, at the same place.

    .. math:: s_i = k + \frac{\alpha}{n} \sum_{j = i - \lfloor n/2 \rfloor}^{i + \lfloor (n-1)/2 \rfloor} a_j^2
       \qquad b_i = a_i\, s_i^{-\beta}

    Channels beyond the first and the last count as 0. Backward: ``da_i = delta_i s_i^-beta`` less what a_i did to
    every channel j that counts it among its neighbours,
    ``2 alpha beta / n  a_i  sum over j of delta_j a_j s_j^(-beta - 1)``.

    The paper writes alpha without the division by n (its 0.0001 with n = 5 is 0.0005 here, as in PyTorch).
    Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks (2012).

    >>> LocalResponseNorm(n=1, alpha=1.0, beta=1.0).forward(torch.tensor([[1.0, 3.0]]))[0]
    tensor([[0.5000, 0.3000]])
    """

    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def forward(self, a: Tensor) -> tuple[Tensor, Kept]:
        """``a [N, C, *H] -> b [N, C, *H]``."""
        near = self._neighbours(a)
        s = self.k + self.alpha / self.n * torch.einsum("ij,nj...->ni...", near, a * a)
        return a * s**-self.beta, (a, s, near)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, C, *H] -> da [N, C, *H]``."""
        a, s, near = kept
        others = torch.einsum("ij,ni...->nj...", near, delta * a * s ** (-self.beta - 1))
        return (delta * s**-self.beta - 2 * self.alpha * self.beta / self.n * a * others,)

    def _neighbours(self, a: Tensor) -> Tensor:
        """``[C, C]``: 1 where channel i (a row) counts channel j (a column) among its neighbours."""
        channel = torch.arange(a.shape[1], device=a.device)
        ahead = channel[None] - channel[:, None]
        return ((ahead >= -(self.n // 2)) & (ahead <= (self.n - 1) // 2)).to(a.dtype)
