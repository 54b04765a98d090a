"""Locally connected layer: a convolution that shares nothing, every place with filters of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.reference.patches import add_columns, columns
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Window, tuple[int, ...]]


@dataclass(frozen=True)
class LocallyConnected:
    r"""A convolution whose filters and biases depend on the place.

    .. math:: y_{n,k,p} = b_{k,p} + \sum_{c,r} w_{k,c,r,p}\, x_{n,c,\; p s + r d - b}

    Backward: as for the convolution, but ``dw`` and ``db`` are not summed over places: each has its own.

    >>> x, w = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[[1.0, 10.0]]]])  # one cell a window, two places
    >>> LocallyConnected().forward(x, w, torch.zeros(1, 2))[0].tolist()
    [[[3.0, 40.0]]]
    """

    stride: IntOrTuple = 1
    padding: Padding = 0
    dilation: IntOrTuple = 1

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H], w [K, C, *R, *P], b [K, *P] -> y [N, K, *P]``."""
        dims = x.dim() - 2
        size, kernel = tuple(x.shape[2:]), w.shape[2 : 2 + dims]
        win = window(dims, kernel, self.stride, self.padding, self.dilation, input_size=size)
        expect("a locally connected layer's w", w.shape, (len(b), x.shape[1], *kernel, *win.output_size(size)))
        expect("the bias", b.shape, (len(w), *win.output_size(size)))
        x_col = columns(x, win)  # [N, C, cells, places]
        w_col = w.reshape(len(w), *x_col.shape[1:])
        y = torch.einsum("kcrp,ncrp->nkp", w_col, x_col).unflatten(2, b.shape[1:]) + b
        return y, (x_col, w, win, size)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, K, *P] -> dx [N, C, *H], dw [K, C, *R, *P], db [K, *P]``."""
        x_col, w, win, size = kept
        here = delta.flatten(2)
        dx_col = torch.einsum("kcrp,nkp->ncrp", w.reshape(len(w), *x_col.shape[1:]), here)
        dw = torch.einsum("nkp,ncrp->kcrp", here, x_col)
        return add_columns(dx_col, size, win), dw.reshape(w.shape), delta.sum(0)
