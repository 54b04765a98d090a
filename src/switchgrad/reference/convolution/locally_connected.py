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

    .. math:: y_{n,k,p} = b_{k,p} + \sum_{c,r} w_{p,k,c,r}\, x_{n,c,\; p s + r d - b}

    w[p] are the filters of a convolution, used at one place. Backward: as for the convolution, but ``dw`` and ``db``
    are not summed over places: each has its own.

    >>> x, w = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[[1.0]]], [[[10.0]]]])  # two places, one cell a window
    >>> LocallyConnected().forward(x, w, torch.zeros(1, 2))[0].tolist()
    [[[3.0, 40.0]]]
    """

    stride: IntOrTuple = 1
    padding: Padding = 0
    dilation: IntOrTuple = 1

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H], w [*P, K, C, *R], b [K, *P] -> y [N, K, *P]``."""
        dims, size = x.dim() - 2, tuple(x.shape[2:])
        win = window(dims, w.shape[dims + 2 :], self.stride, self.padding, self.dilation, input_size=size)
        count = win.output_size(size)
        expect("a locally connected layer's w", w.shape, (*count, len(b), x.shape[1], *win.kernel_size))
        expect("the bias", b.shape, (len(b), *count))
        x_col = columns(x, win)  # [N, C, cells, places]
        y = torch.einsum("pkcr,ncrp->nkp", self._by_place(w, win), x_col).unflatten(2, count) + b
        return y, (x_col, w, win, size)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, K, *P] -> dx [N, C, *H], dw [*P, K, C, *R], db [K, *P]``."""
        x_col, w, win, size = kept
        dx_col = torch.einsum("pkcr,nkp->ncrp", self._by_place(w, win), delta.flatten(2))
        dw = torch.einsum("nkp,ncrp->pkcr", delta.flatten(2), x_col)
        return add_columns(dx_col, size, win), dw.reshape(w.shape), delta.sum(0)

    def _by_place(self, w: Tensor, win: Window) -> Tensor:
        """``[places, K, C, cells]``."""
        return w.flatten(0, win.dims - 1).flatten(3)
