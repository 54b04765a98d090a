"""Residual add: the sum of two ways to the same place."""

from __future__ import annotations

from torch import Tensor

from switchgrad.reference.sizes import expect


class Add:
    """``y = a + z``, as in ``a[l+2] = g(z[l+2] + a[l])``.

    Backward: the gradient goes down both ways whole, so the shortcut carries it past everything on the other way.

    >>> import torch
    >>> one = torch.ones(1)
    >>> Add().backward(5 * one, Add().forward(one, one)[1])
    (tensor([5.]), tensor([5.]))
    """

    def forward(self, a: Tensor, z: Tensor) -> tuple[Tensor, None]:
        """``a [*], z [*] -> y [*]``."""
        expect("the shortcut", a.shape, z.shape)
        return a + z, None

    def backward(self, delta: Tensor, kept: None) -> tuple[Tensor, Tensor]:
        """``delta [*] -> da [*], dz [*]``."""
        return delta, delta
