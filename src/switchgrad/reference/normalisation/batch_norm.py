"""Batch normalisation in training: the batch's own mean and variance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class BatchNorm:
    r"""Every channel brought to mean 0 and variance 1 over the batch and the map, then scaled and shifted.

    .. math:: \mu_j = \tfrac1m \sum z_j \qquad \sigma_j^2 = \tfrac1m \sum (z_j - \mu_j)^2 \qquad
       \hat z_j = \frac{z_j - \mu_j}{\sqrt{\sigma_j^2 + \epsilon}} \qquad y_j = \gamma_j \hat z_j + \beta_j

    m is the number of values of a channel, in the batch and the map together. Backward: each number also moved the
    mean and the variance of all others, which takes two means away from its gradient.

    .. math:: \frac{\partial J}{\partial z_j} = \frac{\gamma_j}{\sqrt{\sigma_j^2 + \epsilon}} \Bigl(\delta_j -
       \tfrac1m \sum \delta_j - \hat z_j\, \tfrac1m \sum \delta_j \hat z_j\Bigr) \qquad
       \frac{\partial J}{\partial \gamma_j} = \sum \delta_j \hat z_j \qquad
       \frac{\partial J}{\partial \beta_j} = \sum \delta_j

    Ioffe, Szegedy: Batch normalization (2015).

    >>> y, _ = BatchNorm(0.0).forward(torch.tensor([[1.0], [3.0]]), torch.ones(1), torch.zeros(1))
    >>> y.tolist()
    [[-1.0], [1.0]]
    """

    epsilon: float = 1e-5

    def forward(self, z: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Kept]:
        """``z [N, C, *H], gamma [C], beta [C] -> y [N, C, *H]``."""
        expect("gamma", gamma.shape, z.shape[1:2])
        expect("beta", beta.shape, z.shape[1:2])
        mu, variance = batch_statistics(z)
        rate = 1 / torch.sqrt(variance + self.epsilon)
        z_hat = (z - across(mu, z)) * across(rate, z)
        return across(gamma, z) * z_hat + across(beta, z), (z_hat, rate, gamma)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, C, *H] -> dz [N, C, *H], dgamma [C], dbeta [C]``."""
        z_hat, rate, gamma = kept
        dgamma, dbeta = per_channel(delta * z_hat), per_channel(delta)
        m = delta.numel() / delta.shape[1]
        through = delta - across(dbeta / m, delta) - z_hat * across(dgamma / m, delta)
        return across(gamma * rate, delta) * through, dgamma, dbeta


def batch_statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by m) of each channel of ``[N, C, *H]``."""
    m = z.numel() // max(z.shape[1], 1)
    if m < 2:
        raise GeometryError(f"a batch of shape {tuple(z.shape)} has {m} value a channel; statistics need at least 2")
    mu = per_channel(z) / m
    return mu, per_channel((z - across(mu, z)) ** 2) / m


def per_channel(x: Tensor) -> Tensor:
    """The sum over everything but the channels: ``[N, C, *H] -> [C]``."""
    return x.transpose(0, 1).flatten(1).sum(1)


def across(channel: Tensor, like: Tensor) -> Tensor:
    """One number a channel, to be used all over the maps ``like`` ``[N, C, *H]``."""
    return channel.reshape(-1, *(1,) * (like.dim() - 2))
