"""Gradient descent with momentum: a ball that rolls down the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Momentum:
    """``v := mu v + dJ/dtheta``, ``theta := theta - alpha v``; v starts at 0.

    Polyak: Some methods of speeding up the convergence of iteration methods (1964).

    >>> rule, theta = Momentum(0.5, mu=0.5), torch.tensor(0.0)
    >>> theta, v = rule.step(theta, torch.tensor(1.0), rule.start(theta))
    >>> theta, v = rule.step(theta, torch.tensor(1.0), v)
    >>> theta.item(), v.item()
    (-1.25, 1.5)
    """

    alpha: float
    mu: float = 0.9

    def start(self, theta: Tensor) -> Tensor:
        """At rest."""
        return torch.zeros_like(theta)

    def step(self, theta: Tensor, gradient: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """``theta [*], gradient [*], v [*] -> theta [*], v [*]``."""
        v = self.mu * memory + gradient
        return theta - self.alpha * v, v
