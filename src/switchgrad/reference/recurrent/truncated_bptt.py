"""Truncated backpropagation through time: errors are sent back a limited number of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.errors import ModelError
from switchgrad.reference.recurrent.bptt import BPTT
from switchgrad.reference.recurrent.cell import Cell


class TruncatedBPTT(BPTT):
    """Every ``every`` steps the errors of these steps are sent back over the last ``back`` steps, and no further.

    Forward as `BPTT`. Backward: at ``t = every, 2 every, ..`` (and at the end) the errors ``delta`` of the steps since
    the last time start, run back through the steps ``t, t-1, .. t-back+1`` and are then dropped; the results of all
    these runs are added. ``every = back``: the sequence is cut into stretches between which no error passes.
    ``every = 1``: each step's error goes back through ``back`` steps exactly. ``back >= T``: full BPTT. Only the last
    ``back`` steps must be kept in memory (here all are, to be added up at the end); the gradient is biased towards
    what happened lately.

    Raises `ModelError` unless ``1 <= every <= back``.

    R. Williams, J. Peng: An efficient gradient-based algorithm for on-line training of recurrent network trajectories,
    1990: their BPTT(h; h') is ``back = h``, ``every = h'``.

    >>> from switchgrad.reference.recurrent import IndRNN
    >>> one = torch.ones(1, 1)
    >>> layer = TruncatedBPTT(IndRNN(), back=2)
    >>> s, kept = layer.forward(torch.ones(3, 1, 1), 0 * one, one, torch.tensor([0.5]), torch.zeros(1))
    >>> layer.backward(torch.tensor([0.0, 0.0, 1.0])[:, None, None], kept)[0].flatten().tolist()  # BPTT: 0.25, 0.5, 1
    [0.0, 0.5, 1.0]
    """

    def __init__(self, cell: Cell, back: int, every: int = 1) -> None:
        super().__init__(cell)
        if not 1 <= every <= back:
            raise ModelError(f"back is {back} and every {every}; give 1 <= every <= back, so that no error is lost")
        self.back, self.every = back, every

    def backward(self, delta: Tensor, kept: list[Any]) -> tuple[Tensor, ...]:
        """``delta [T, N, S] -> dx [T, N, I], ds0 [N, S], gradients of the weights``."""
        steps, total = len(delta), []
        for begin in range(0, steps, self.every):
            end = min(begin + self.every, steps)
            first = max(end - self.back, 0)
            errors = torch.cat([torch.zeros_like(delta[first:begin]), delta[begin:end]])
            dx, ds, *dweights = super().backward(errors, kept[first:end])
            before, behind = (torch.zeros_like(dx[:1]).expand(n, *dx.shape[1:]) for n in (first, steps - end))
            found = [torch.cat([before, dx, behind]), ds if first == 0 else torch.zeros_like(ds), *dweights]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return tuple(total)
