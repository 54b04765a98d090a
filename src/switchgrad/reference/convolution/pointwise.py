"""1x1 convolution: a linear layer across the channels, at every place alike."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor]


class PointwiseConvolution:
    r"""``y[n, k, p] = b[k] + sum over c of w[k, c] x[n, c, p]``: K channels out of C, the map as large as before.

    Backward: ``dx = w^T delta`` at each place; ``dw`` is the sum over examples and places of ``delta x^T``.

    >>> x, w = torch.ones(1, 192, 2, 2), torch.ones(32, 192)
    >>> PointwiseConvolution().forward(x, w, torch.zeros(32))[0].shape
    torch.Size([1, 32, 2, 2])
    """

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H], w [K, C], b [K] -> y [N, K, *H]``."""
        expect("the matrix of a 1x1 convolution", w.shape, (len(b), x.shape[1]))
        return torch.einsum("kc,nc...->nk...", w, x) + b.reshape(-1, *(1,) * (x.dim() - 2)), (x, w)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, K, *H] -> dx [N, C, *H], dw [K, C], db [K]``."""
        x, w = kept
        dx = torch.einsum("kc,nk...->nc...", w, delta)
        dw = torch.einsum("nkp,ncp->kc", delta.flatten(2), x.flatten(2))
        return dx, dw, delta.flatten(2).sum((0, 2))
