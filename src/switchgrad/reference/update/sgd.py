"""Gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SGD:
    """``theta := theta - alpha dJ/dtheta``; stochastic where the gradient is that of a mini-batch.

    >>> import torch
    >>> SGD(0.1).step(torch.tensor(1.0), torch.tensor(2.0), None)[0].item()
    0.8...
    """

    alpha: float

    def start(self, theta: Tensor) -> None:
        """Nothing to remember."""

    def step(self, theta: Tensor, gradient: Tensor, memory: None) -> tuple[Tensor, None]:
        """``theta [*], gradient [*] -> theta [*]``."""
        return theta - self.alpha * gradient, None
