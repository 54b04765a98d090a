"""Every pooling whose windows have one winner each, whoever chose it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.ops import PlacedSwitches, Switches

Kept = tuple[Tensor, tuple[int, ...]]


@dataclass(frozen=True)
class SwitchPool:
    """A pooling of `switchgrad.ops` that returns its switches, with the one backward that all of these share.

    ``pool(x)`` gives values and switches: max pooling, max pooling of what a ReLU passes (one without a leak),
    stochastic, fractional and S3 pooling, max-pooling dropout. What each means stands at the operator. Backward: with
    i(p) the cell that won the window at p, ``dx_i = sum of delta_p over the windows with i(p) = i``; a window that
    nobody won sends nothing.

    >>> from switchgrad import ops
    >>> layer = SwitchPool(lambda x: ops.relu_max_pool2d(x, 2, return_switches=True))
    >>> y, kept = layer.forward(torch.tensor([[[[3.0, 9.0, -1.0, -2.0], [0.0, 6.0, -3.0, -4.0]]]]))
    >>> y.tolist(), layer.backward(torch.ones_like(y), kept)[0].tolist()
    ([[[[9.0, 0.0]]]], [[[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]])
    """

    pool: Callable[[Tensor], tuple[Tensor, Switches | PlacedSwitches]]

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H] -> y [N, C, *P]``."""
        y, switches = self.pool(x)
        return y, (switches.to_indices().flatten(2), tuple(x.shape[2:]))

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, C, *P] -> dx [N, C, *H]``."""
        winners, size = kept
        sent = torch.where(winners < 0, 0.0, delta.flatten(2))
        dx = delta.new_zeros(*delta.shape[:2], math.prod(size)).scatter_add(2, winners.clamp(min=0), sent)
        return (dx.unflatten(2, size),)
