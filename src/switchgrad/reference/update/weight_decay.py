"""Weight decay: a price on weights, added to the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from switchgrad.reference.layer import Rule


@dataclass(frozen=True)
class WeightDecay:
    """Another rule, fed the gradient of ``J + l1 sum |theta| + l2/2 sum theta^2``.

    That is ``dJ/dtheta + l1 sign(theta) + l2 theta``, with sign(0) = 0.

    >>> from switchgrad.reference import SGD
    >>> WeightDecay(SGD(0.5), l2=0.5).step(torch.tensor(4.0), torch.tensor(0.0), None)[0].item()
    3.0
    """

    rule: Rule
    l1: float = 0.0
    l2: float = 0.0

    def start(self, theta: Tensor) -> Any:
        """What the other rule remembers."""
        return self.rule.start(theta)

    def step(self, theta: Tensor, gradient: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """``theta [*], gradient [*] -> theta [*]``."""
        return self.rule.step(theta, gradient + self.l1 * torch.sign(theta) + self.l2 * theta, memory)
