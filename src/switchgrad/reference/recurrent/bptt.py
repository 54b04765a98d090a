"""Backpropagation through time: a sequence is a deep network whose layers share their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from switchgrad.reference.recurrent.cell import Cell
from switchgrad.reference.sizes import expect


class BPTT:
    """``s[t] = cell(x[t], s[t-1])`` for ``t = 1 .. T``: forward the whole sequence, then backward the whole sequence.

    Backward: the error at ``s[t]`` is what the loss says there plus what comes back from the step behind it,
    ``epsilon[t] = delta[t] + ds of step t+1``; ``dx[t]`` and ``ds`` follow by the cell's backward, and since all steps
    share one set of weights, the weights' gradients are added over time.

    P. Werbos: Backpropagation through time: what it does and how to do it, 1990.

    >>> from switchgrad.reference.recurrent import IndRNN
    >>> one = torch.ones(1, 1)
    >>> x, s0, u, b = torch.ones(3, 1, 1), 0 * one, torch.tensor([0.5]), torch.zeros(1)
    >>> s, kept = BPTT(IndRNN()).forward(x, s0, one, u, b)
    >>> dx, ds0, dW, du, db = BPTT(IndRNN()).backward(torch.tensor([0.0, 0.0, 1.0])[:, None, None], kept)
    >>> s.flatten().tolist(), dx.flatten().tolist(), du.item()
    ([1.0, 1.5, 1.75], [0.25, 0.5, 1.0], 2.0)
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def forward(self, x: Tensor, s0: Tensor, *weights: Tensor) -> tuple[Tensor, list[Any]]:
        """``x [T, N, I], s0 [N, S], weights of the cell -> s [T, N, S]``, the states after each step."""
        expect("a sequence", x.shape, (None, len(s0), None))
        s, states, kept = s0, [], []
        for x_t in x:
            s, kept_t = self.cell.forward(x_t, s, *weights)
            states.append(s)
            kept.append(kept_t)
        return torch.stack(states), kept

    def backward(self, delta: Tensor, kept: list[Any]) -> tuple[Tensor, ...]:
        """``delta [T, N, S] -> dx [T, N, I], ds0 [N, S], gradients of the weights``."""
        ds, inputs, weights = torch.zeros_like(delta[0]), [], []
        for delta_t, kept_t in zip(reversed(delta), reversed(kept), strict=True):
            dx_t, ds, *dweights = self.cell.backward(delta_t + ds, kept_t)
            inputs.insert(0, dx_t)
            weights = [a + b for a, b in zip(weights, dweights, strict=True)] if weights else dweights
        return torch.stack(inputs), ds, *weights
