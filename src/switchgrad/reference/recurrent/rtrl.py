"""Real-time recurrent learning: the gradient is carried forward in time, so that learning need not wait."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.recurrent.cell import Cell


class RTRL:
    """Beside the state runs its sensitivity ``P = ds/dtheta``, one for each weight of the cell::

        P[t] = (ds[t]/ds[t-1]) P[t-1] + ds[t]/dtheta        # the second with s[t-1] held fixed
        dJ/dtheta = sum over t of delta[t] . P[t]

    It is forward accumulation with a tangent for every weight: the same gradient as `BPTT` (to rounding), known at
    each step, with no history kept; the price is ``S`` numbers a weight and example, and a product of them at every
    step. Errors at the inputs are not among what it carries. The rows of both Jacobians are the cell's backward of a
    unit error at one state of one example.

    ::

        P = rtrl.start(s0, *weights)
        for each step:
            s, P = rtrl.step(x, s, P, *weights)
            gradients = rtrl.gradients(delta, P)            # of this step's loss

    R. Williams, D. Zipser: A learning algorithm for continually running fully recurrent neural networks, 1989.

    >>> from switchgrad.reference.recurrent import IndRNN
    >>> weights = torch.ones(1, 1), torch.tensor([0.5]), torch.zeros(1)
    >>> rtrl, s = RTRL(IndRNN()), torch.zeros(1, 1)
    >>> P = rtrl.start(s, *weights)
    >>> for _ in range(3):
    ...     s, P = rtrl.step(torch.ones(1, 1), s, P, *weights)
    >>> [g.item() for g in rtrl.gradients(torch.ones(1, 1), P)]         # dW, du, db of the last state
    [1.75, 2.0, 1.75]
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def start(self, s0: Tensor, *weights: Tensor) -> list[Tensor]:
        """``P [N, S, *weight]`` for each weight, all 0: the first state does not depend on them."""
        return [s0.new_zeros(*s0.shape, *w.shape) for w in weights]

    def step(self, x: Tensor, s: Tensor, P: list[Tensor], *weights: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``x [N, I], s [N, S], P, weights -> s' [N, S], P'``."""
        following, kept = self.cell.forward(x, s, *weights)
        carried = s.new_zeros(*s.shape, s.shape[1])  # ds'/ds [N, S, S]
        direct = [torch.zeros_like(p) for p in P]  # ds'/dtheta [N, S, *weight]
        for n in range(s.shape[0]):
            for k in range(s.shape[1]):
                unit = torch.zeros_like(s)
                unit[n, k] = 1
                _, ds, *dweights = self.cell.backward(unit, kept)
                carried[n, k] = ds[n]
                for row, dw in zip(direct, dweights, strict=True):
                    row[n, k] = dw
        return following, [torch.einsum("nkj,nj...->nk...", carried, p) + d for p, d in zip(P, direct, strict=True)]

    def gradients(self, delta: Tensor, P: list[Tensor]) -> list[Tensor]:
        """``delta [N, S]``, dJ/ds of this step -> dJ/dtheta for each weight."""
        return [torch.einsum("nk,nk...->...", delta, p) for p in P]
