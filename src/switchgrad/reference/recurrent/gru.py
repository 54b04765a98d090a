"""The gated recurrent unit: one gate mixes old and new, another lets the old be forgotten."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, ...]


class GRU:
    """A reset gate ``r``, an update gate ``z`` and a candidate ``n``::

        r = sigma(W_r x + b_r + U_r h + c_r)
        z = sigma(W_z x + b_z + U_z h + c_z)
        m = U_n h + c_n
        n = tanh(W_n x + b_n + r (.) m)
        h' = (1 - z) (.) n + z (.) h

    Rows of ``W``, ``U``, ``b`` and ``c`` are in PyTorch's order ``r, z, n``. As there, and unlike the paper, the reset
    gate acts behind ``U_n``; so the candidate needs both biases.

    Backward: ``dz = delta (.) (h - n)``, ``dn = delta (.) (1 - z)``; behind the squashing functions
    ``delta_n = dn (1 - n^2)``, ``dm = delta_n (.) r``, ``delta_r = delta_n (.) m (.) r (1 - r)``,
    ``delta_z = dz z (1 - z)``. The input's side is ``delta_x = [delta_r; delta_z; delta_n]``, the state's
    ``delta_s = [delta_r; delta_z; dm]``: ``dx = W^T delta_x``, ``dh = U^T delta_s + z (.) delta``, and for the weights
    ``dW = delta_x x^T``, ``dU = delta_s h^T``, ``db = delta_x``, ``dc = delta_s``, summed over the examples.

    K. Cho et al.: Learning phrase representations using RNN encoder-decoder, 2014.

    >>> zero = torch.zeros
    >>> h, kept = GRU().forward(zero(1, 1), torch.tensor([[2.0]]), zero(3, 1), zero(3, 1), zero(3), zero(3))
    >>> h.item(), GRU().backward(torch.tensor([[1.0]]), kept)[1].item()
    (1.0, 0.5)
    """

    def forward(self, x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, I], h [N, H], W [3 H, I], U [3 H, H], b [3 H], c [3 H] -> h' [N, H]``."""
        expect("the input of a recurrent cell", x.shape, (len(h), W.shape[1]))
        expect("its state", h.shape, (len(x), U.shape[1]))
        x_r, x_z, x_n = (x @ W.T + b).chunk(3, 1)
        h_r, h_z, m = (h @ U.T + c).chunk(3, 1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * m)
        return (1 - z) * n + z * h, (x, h, W, U, r, z, n, m)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, ...]:
        """``delta [N, H] -> dx, dh, dW, dU, db, dc``, each of the shape of its argument."""
        x, h, W, U, r, z, n, m = kept
        delta_n = delta * (1 - z) * (1 - n**2)
        delta_z = delta * (h - n) * z * (1 - z)
        delta_r = delta_n * m * r * (1 - r)
        delta_x = torch.cat([delta_r, delta_z, delta_n], 1)
        delta_s = torch.cat([delta_r, delta_z, delta_n * r], 1)
        dh = delta_s @ U + z * delta
        return delta_x @ W, dh, delta_x.T @ x, delta_s.T @ h, delta_x.sum(0), delta_s.sum(0)

    def output(self, h: Tensor) -> Tensor:
        """All of the state."""
        return h
