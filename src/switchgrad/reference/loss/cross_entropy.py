"""Cross-entropy of a softmax: how surprised the network is by the right class."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor]


class CrossEntropy:
    """``J = -log p[y]`` with ``p = softmax(z)``, the mean over the examples; y is the right class.

    Backward: the two derivatives melt into one, ``dz = delta (p - onehot(y)) / N``.

    >>> J, kept = CrossEntropy().forward(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    >>> round(J.item(), 4), CrossEntropy().backward(torch.tensor(1.0), kept)[0].tolist()
    (0.6931, [[0.5, -0.5]])
    """

    def forward(self, z: Tensor, y: Tensor) -> tuple[Tensor, Kept]:
        """``z [N, C] scores, y [N] classes 0 to C - 1 -> J []``."""
        onehot = one_hot(y, z)
        shifted = z - z.amax(1, keepdim=True)
        log_p = shifted - torch.log(torch.exp(shifted).sum(1, keepdim=True))
        return -torch.where(onehot > 0, log_p, 0.0).sum() / len(z), (log_p, onehot)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, None]:
        """``delta [] -> dz [N, C], None``."""
        log_p, onehot = kept
        return delta * (torch.exp(log_p) - onehot) / len(onehot), None


def one_hot(y: Tensor, z: Tensor) -> Tensor:
    """``[N, C]``, 1 at each example's class and 0 elsewhere; refuses classes that have no score in ``z [N, C]``."""
    expect("the score", z.shape, (None, None))
    expect("the class", y.shape, z.shape[:1])
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= z.shape[1]):
        raise GeometryError(f"the classes run from {int(y.min())} to {int(y.max())}, but there are {z.shape[1]} scores")
    return (y[:, None] == torch.arange(z.shape[1], device=y.device)).to(z.dtype)
