"""Flatten: a map becomes a row of numbers."""

from __future__ import annotations

import math

from torch import Size, Tensor


class Flatten:
    """``[N, C, *H]`` read in row-major order: no number changes, only where it stands.

    Backward: the gradient put back into the shape of the map.

    >>> import torch
    >>> y, kept = Flatten().forward(torch.zeros(2, 40, 7, 7))
    >>> y.shape, Flatten().backward(y, kept)[0].shape
    (torch.Size([2, 1960]), torch.Size([2, 40, 7, 7]))
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Size]:
        """``x [N, C, *H] -> y [N, C H]``."""
        return x.reshape(len(x), math.prod(x.shape[1:])), x.shape

    def backward(self, delta: Tensor, kept: Size) -> tuple[Tensor]:
        """``delta [N, C H] -> dx [N, C, *H]``."""
        return (delta.reshape(kept),)
