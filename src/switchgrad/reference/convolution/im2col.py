"""Convolution as one big matrix product."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.reference.patches import add_columns, columns
from switchgrad.reference.sizes import expect_filters

Kept = tuple[Tensor, Tensor, Window, tuple[int, ...]]


@dataclass(frozen=True)
class ConvolutionIm2col:
    r"""The same as `Convolution`, patches written out as the columns of a matrix: ``y = W X_col + b``.

    Backward: ``dW = delta X_col^T`` (its inner sum runs over all places, which share W), ``dX_col = W^T delta``, and
    each copy's gradient is added to the cell that it was copied from (col2im). The price is memory: every input
    number is copied once for each window that sees it.

    >>> import torch
    >>> w, b = torch.tensor([[[1.0, 2.0]]]), torch.zeros(1)
    >>> y, kept = ConvolutionIm2col().forward(torch.tensor([[[3.0, 4.0, 5.0]]]), w, b)
    >>> y.tolist(), ConvolutionIm2col().backward(torch.ones_like(y), kept)[0].tolist()
    ([[[11.0, 14.0]]], [[[1.0, 3.0, 2.0]]])
    """

    stride: IntOrTuple = 1
    padding: Padding = 0
    dilation: IntOrTuple = 1
    groups: int = 1

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H], w [K, C/G, *R], b [K] -> y [N, K, *P]``."""
        expect_filters(x, w, b, self.groups)
        win = window(w.dim() - 2, w.shape[2:], self.stride, self.padding, self.dilation, input_size=x.shape[2:])
        x_col = columns(x, win).unflatten(1, (self.groups, -1)).flatten(2, 3)  # [N, G, C/G cells, places]
        y = self._rows(w) @ x_col  # [N, G, K/G, places]
        size = tuple(x.shape[2:])
        return (y.flatten(1, 2) + b[:, None]).unflatten(2, win.output_size(size)), (x_col, w, win, size)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, K, *P] -> dx [N, C, *H], dw [K, C/G, *R], db [K]``."""
        x_col, w, win, size = kept
        delta = delta.flatten(2).unflatten(1, (self.groups, -1))  # [N, G, K/G, places]
        dw = (delta @ x_col.mT).sum(0)
        dx_col = self._rows(w).mT @ delta
        dx = add_columns(dx_col.unflatten(2, (-1, win.cells)).flatten(1, 2), size, win)
        return dx, dw.reshape(w.shape), delta.sum((0, 3)).flatten()

    def _rows(self, w: Tensor) -> Tensor:
        """One filter a row: ``[G, K/G, C/G cells]``."""
        return w.flatten(1).unflatten(0, (self.groups, -1))
