"""Batch normalisation in evaluation: fixed statistics, so each number stands for itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.reference.normalisation.batch_norm import across, batch_statistics, per_channel
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class BatchNormEvaluation:
    """``y = gamma (z - mu) / sqrt(sigma^2 + epsilon) + beta`` with the mean and variance of the training set.

    Backward: the statistics are constants, so ``dz = delta gamma / sqrt(sigma^2 + epsilon)``, without the two means
    of `BatchNorm`.

    >>> one = torch.ones(1)
    >>> BatchNormEvaluation(0.0).forward(torch.tensor([[5.0]]), one, one, one, 4 * one)[0].item()
    3.0
    """

    epsilon: float = 1e-5

    def forward(self, z: Tensor, gamma: Tensor, beta: Tensor, mu: Tensor, variance: Tensor) -> tuple[Tensor, Kept]:
        """``z [N, C, *H]; gamma, beta, mu, variance [C] -> y [N, C, *H]``."""
        for name, given in (("gamma", gamma), ("beta", beta), ("mu", mu), ("variance", variance)):
            expect(name, given.shape, z.shape[1:2])
        rate = 1 / torch.sqrt(variance + self.epsilon)
        z_hat = (z - across(mu, z)) * across(rate, z)
        return across(gamma, z) * z_hat + across(beta, z), (z_hat, rate, gamma)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """``delta [N, C, *H] -> dz [N, C, *H], dgamma [C], dbeta [C], None, None``."""
        z_hat, rate, gamma = kept
        return delta * across(gamma * rate, delta), per_channel(delta * z_hat), per_channel(delta), None, None


def running_statistics(mu: Tensor, variance: Tensor, z: Tensor, momentum: float = 0.1) -> tuple[Tensor, Tensor]:
    """The statistics for evaluation after one more batch: ``mu [C], variance [C], z [N, C, *H] -> mu, variance``.

    ``mu := (1 - momentum) mu + momentum mu_batch``, and so the variance, the batch's times ``m / (m - 1)``, which
    makes it the unbiased estimate of the variance over all examples. They start at 0 and 1.

    >>> running_statistics(torch.zeros(1), torch.ones(1), torch.tensor([[1.0], [3.0]]), momentum=0.5)
    (tensor([1.]), tensor([1.5000]))
    """
    m = z.numel() // z.shape[1]
    batch_mu, batch_variance = batch_statistics(z)
    unbiased = batch_variance * m / (m - 1)
    return (1 - momentum) * mu + momentum * batch_mu, (1 - momentum) * variance + momentum * unbiased
