"""Concatenation: the channels of several maps side by side, as in Inception."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect


class Concat:
    """``y = [x_1; x_2; ...]`` along the channels (axis 1).

    Backward: every input gets back the part of the gradient that stands where it stood.

    >>> y, kept = Concat().forward(torch.ones(1, 2), torch.zeros(1, 1))
    >>> y.tolist(), [gradient.tolist() for gradient in Concat().backward(torch.tensor([[5.0, 6.0, 7.0]]), kept)]
    ([[1.0, 1.0, 0.0]], [[[5.0, 6.0]], [[7.0]]])
    """

    def forward(self, *inputs: Tensor) -> tuple[Tensor, list[int]]:
        """``x_i [N, C_i, *H] -> y [N, sum of C_i, *H]``."""
        for x in inputs[1:]:
            expect("an input of concat", x.shape, (len(inputs[0]), None, *inputs[0].shape[2:]))
        return torch.cat(inputs, 1), [x.shape[1] for x in inputs]

    def backward(self, delta: Tensor, kept: list[int]) -> tuple[Tensor, ...]:
        """``delta [N, sum of C_i, *H] -> dx_i [N, C_i, *H]``."""
        return delta.split(kept, 1)
