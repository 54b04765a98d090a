"""Local contrast normalisation: each place less its surroundings, divided by how much they vary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import window
from switchgrad.reference.patches import add_columns, columns

Kept = tuple[Tensor, Tensor, Tensor, Tensor, "_Surroundings"]


@dataclass(frozen=True)
class LocalContrastNorm:
    r"""Subtractive, then divisive normalisation with a Gaussian window g over all C channels around each place.

    .. math:: v_{i,p} = x_{i,p} - \sum_{j,r} \frac{g_r}{C} x_{j,p+r} \qquad
       \sigma_p = \sqrt{\textstyle\sum_{j,r} \frac{g_r}{C} v_{j,p+r}^2} \qquad
       y_{i,p} = \frac{v_{i,p}}{\max(c, \sigma_p)} \qquad c = \operatorname{mean}_p \sigma_p

    The weights sum to 1 over the cells inside the map; c is taken for each example; sigma is at least epsilon, so that
    a map without contrast gives 0. ``spread`` is the Gaussian's deviation in cells (a quarter of the window unless
    given).

    Backward: with ``m = max(c, sigma)``, ``dm_p = -sum over i of delta_ip v_ip / m_p^2`` goes to sigma where sigma
    won, and to c, so in equal shares to every sigma, where c won (a tie is c's); from sigma to v, and from v to x,
    back through the same window. Where sigma is epsilon it is a constant.

    Jarrett, Kavukcuoglu, Ranzato, LeCun: What is the best multi-stage architecture for object recognition? (2009).

    >>> LocalContrastNorm().forward(torch.full((1, 1, 20, 20), 7.0))[0].abs().max() < 0.1
    tensor(True)
    """

    kernel_size: int = 9
    spread: float | None = None
    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise GeometryError(f"kernel_size is {self.kernel_size}; a window around a place is odd")

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H] -> y [N, C, *H]``."""
        around = _Surroundings(self.kernel_size, self.spread or self.kernel_size / 4, x)
        v = x - around.mean(x)
        variance = around.mean(v**2)
        sigma = torch.sqrt(torch.clamp(variance, min=self.epsilon**2))
        c = sigma.flatten(1).mean(1).reshape(-1, *(1,) * (x.dim() - 1))
        return v / torch.maximum(c, sigma), (v, variance, sigma, c, around)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, C, *H] -> dx [N, C, *H]``."""
        v, variance, sigma, c, around = kept
        m = torch.maximum(c, sigma)
        dm = -(delta * v).sum(1, keepdim=True) / m**2
        dc = torch.where(sigma > c, 0.0, dm).flatten(1).mean(1).reshape(c.shape)
        dsigma = torch.where(sigma > c, dm, 0.0) + dc
        dvariance = torch.where(variance > self.epsilon**2, dsigma / (2 * sigma), 0.0)
        dv = delta / m + 2 * v * around.mean_back(dvariance)
        return (dv - around.mean_back(dv.sum(1, keepdim=True)),)


class _Surroundings:
    """The Gaussian mean over all channels around each place of maps like ``x [N, C, *H]``, and its backward."""

    def __init__(self, kernel_size: int, spread: float, x: Tensor) -> None:
        self.window = window(x.dim() - 2, kernel_size, 1, kernel_size // 2)
        away = torch.arange(kernel_size, dtype=x.dtype, device=x.device) - kernel_size // 2
        g = torch.ones((), dtype=x.dtype, device=x.device)
        for _ in range(self.window.dims):
            g = g[..., None] * torch.exp(-(away**2) / (2 * spread**2))
        self.g = g.flatten()
        inside = torch.ones_like(x[:1])
        self.total = self._sum(inside)  # the weights inside the map, times C

    def mean(self, x: Tensor) -> Tensor:
        """``[N, C, *H] -> [N, 1, *H]``."""
        return self._sum(x) / self.total

    def mean_back(self, delta: Tensor) -> Tensor:
        """``[N, 1, *H] -> [N, 1, *H]``, the same for every channel."""
        shares = (delta / self.total).flatten(2)[:, :, None] * self.g[:, None]
        return add_columns(shares, delta.shape[2:], self.window)

    def _sum(self, x: Tensor) -> Tensor:
        return torch.einsum("ncrp,r->np", columns(x, self.window), self.g).reshape(len(x), 1, *x.shape[2:])
