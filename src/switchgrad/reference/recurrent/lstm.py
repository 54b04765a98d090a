"""The long short-term memory cell: a state that is added to, behind three gates."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, ...]


class LSTM:
    """Gates ``i`` in, ``f`` forget, ``o`` out and a candidate ``g`` write, keep and show a memory ``c``::

        [i; f; g; o] = [sigma; sigma; tanh; sigma](W x + U h + b)
        c' = f (.) c + i (.) g
        h' = o (.) tanh(c')

    The state is ``s = [h, c]``; the outside sees ``h``. Rows of ``W``, ``U`` and ``b`` are in PyTorch's order
    ``i, f, g, o`` (its two biases added make ``b``).

    Backward, from ``[delta_h, delta_c] = dJ/ds'``. Through the output: ``do = delta_h (.) tanh(c')``,
    ``gamma = delta_c + delta_h (.) o (.) (1 - tanh(c')^2)``. Through the memory: ``di = gamma (.) g``,
    ``df = gamma (.) c``, ``dg = gamma (.) i``, ``dc = gamma (.) f``. Behind the squashing functions
    ``delta_z = [di i (1-i); df f (1-f); dg (1-g^2); do o (1-o)]``, and from there as in a linear layer. From step to
    step the memory's error is multiplied by ``f`` alone: with an open forget gate it neither vanishes nor explodes.

    S. Hochreiter, J. Schmidhuber: Long short-term memory, 1997; the forget gate: F. Gers et al.: Learning to forget,
    2000.

    >>> zero = torch.zeros
    >>> s, kept = LSTM().forward(zero(1, 1), torch.tensor([[0.0, 2.0]]), zero(4, 1), zero(4, 1), zero(4))
    >>> s[0, 1].item(), LSTM().backward(torch.tensor([[0.0, 1.0]]), kept)[1].tolist()  # half of the memory stays
    (1.0, [[0.0, 0.5]])
    """

    def forward(self, x: Tensor, s: Tensor, W: Tensor, U: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, I], s [N, 2 H], W [4 H, I], U [4 H, H], b [4 H] -> s' [N, 2 H]``."""
        expect("the input of a recurrent cell", x.shape, (len(s), W.shape[1]))
        expect("its state", s.shape, (len(x), 2 * U.shape[1]))
        h, c = s.chunk(2, 1)
        z_i, z_f, z_g, z_o = (x @ W.T + h @ U.T + b).chunk(4, 1)
        i, f, g, o = torch.sigmoid(z_i), torch.sigmoid(z_f), torch.tanh(z_g), torch.sigmoid(z_o)
        memory = f * c + i * g
        shown = torch.tanh(memory)
        return torch.cat([o * shown, memory], 1), (x, h, c, W, U, i, f, g, o, shown)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, ...]:
        """``delta [N, 2 H] -> dx, ds, dW, dU, db``, each of the shape of its argument."""
        x, h, c, W, U, i, f, g, o, shown = kept
        delta_h, delta_c = delta.chunk(2, 1)
        gamma = delta_c + delta_h * o * (1 - shown**2)
        into = gamma * g * i * (1 - i), gamma * c * f * (1 - f), gamma * i * (1 - g**2), delta_h * shown * o * (1 - o)
        delta_z = torch.cat(into, 1)
        ds = torch.cat([delta_z @ U, gamma * f], 1)
        return delta_z @ W, ds, delta_z.T @ x, delta_z.T @ h, delta_z.sum(0)

    def output(self, s: Tensor) -> Tensor:
        """``h``, the first half of the state."""
        return s.chunk(2, 1)[0]
