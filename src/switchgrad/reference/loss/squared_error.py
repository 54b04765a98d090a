"""Squared error."""

from __future__ import annotations

from torch import Tensor

from switchgrad.reference.sizes import expect


class SquaredError:
    """``J = 1/2 (y - yhat)^2``, summed over the outputs, the mean over the examples.

    Backward: ``dyhat = delta (yhat - y) / N``.

    >>> import torch
    >>> J, kept = SquaredError().forward(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    >>> J.item(), SquaredError().backward(torch.tensor(1.0), kept)[0].item()
    (2.0, 2.0)
    """

    def forward(self, yhat: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``yhat [N, *], y [N, *] -> J []``."""
        expect("the target", y.shape, yhat.shape)
        error = yhat - y
        return (error**2).sum() / (2 * len(y)), error

    def backward(self, delta: Tensor, kept: Tensor) -> tuple[Tensor, None]:
        """``delta [] -> dyhat [N, *], None``."""
        error = kept
        return delta * error / len(error), None
