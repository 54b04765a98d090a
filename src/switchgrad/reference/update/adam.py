"""Adam: a step of about the same length for every parameter, whatever the size of its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Memory = tuple[Tensor, Tensor, int]


@dataclass(frozen=True)
class Adam:
    r"""Running means of the gradient and of its square, both freed of their start at 0.

    .. math:: m := \beta_1 m + (1 - \beta_1) g \qquad v := \beta_2 v + (1 - \beta_2) g^2 \qquad
       \theta := \theta - \alpha\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Kingma, Ba: Adam (2015).

    >>> rule, theta = Adam(0.1), torch.tensor([0.0, 0.0])
    >>> rule.step(theta, torch.tensor([1000.0, -0.001]), rule.start(theta))[0]  # the first step is alpha for both
    tensor([-0.1000,  0.1000])
    """

    alpha: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def start(self, theta: Tensor) -> Memory:
        """m, v and the number of steps t."""
        return torch.zeros_like(theta), torch.zeros_like(theta), 0

    def step(self, theta: Tensor, gradient: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """``theta [*], gradient [*], (m [*], v [*], t) -> theta [*], (m [*], v [*], t + 1)``."""
        m, v, t = memory[0], memory[1], memory[2] + 1
        m = self.beta1 * m + (1 - self.beta1) * gradient
        v = self.beta2 * v + (1 - self.beta2) * gradient**2
        m_hat, v_hat = m / (1 - self.beta1**t), v / (1 - self.beta2**t)
        return theta - self.alpha * m_hat / (torch.sqrt(v_hat) + self.epsilon), (m, v, t)
