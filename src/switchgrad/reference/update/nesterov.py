"""Nesterov's momentum: the gradient where the ball is about to be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Nesterov:
    """``v := mu v + dJ/dtheta``, ``theta := theta - alpha (dJ/dtheta + mu v)``; v starts at 0.

    This is the form in which theta is the point looked ahead to, so that the gradient is taken at theta itself.

    Nesterov: A method of solving a convex programming problem with convergence rate O(1/k^2) (1983); Sutskever,
    Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning (2013).

    >>> rule = Nesterov(0.5, mu=0.5)
    >>> rule.step(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(0.0))[0].item()
    -0.75
    """

    alpha: float
    mu: float = 0.9

    def start(self, theta: Tensor) -> Tensor:
        """At rest."""
        return torch.zeros_like(theta)

    def step(self, theta: Tensor, gradient: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """``theta [*], gradient [*], v [*] -> theta [*], v [*]``."""
        v = self.mu * memory + gradient
        return theta - self.alpha * (gradient + self.mu * v), v
