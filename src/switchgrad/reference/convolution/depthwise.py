"""Depthwise convolution: every channel has filters of its own and sees no other channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.reference.patches import add_columns, columns
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Window, tuple[int, ...]]


@dataclass(frozen=True)
class DepthwiseConvolution:
    r"""M filters for each channel; output channel ``c M + m`` is channel c seen through its filter m.

    .. math:: y_{n,\,cM+m,\,p} = b_{cM+m} + \sum_r w_{cM+m,\,r}\, x_{n,c,\; p s + r d - b}

    It is `Convolution` with as many groups as channels. Backward: the M gradients that come back to a channel are
    added; ``dw`` is the sum over examples and places.

    >>> x, w = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]]])
    >>> DepthwiseConvolution().forward(x, w, torch.zeros(2))[0].tolist()
    [[[3.0], [-1.0]]]
    """

    stride: IntOrTuple = 1
    padding: Padding = 0
    dilation: IntOrTuple = 1

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H], w [C M, 1, *R], b [C M] -> y [N, C M, *P]``."""
        expect("a depthwise convolution's w", w.shape, (len(b), 1, *(None,) * (x.dim() - 2)))
        if len(w) % x.shape[1]:
            raise GeometryError(
                f"{len(w)} filters for {x.shape[1]} channels; a depthwise convolution has as many for each channel"
            )
        win = window(w.dim() - 2, w.shape[2:], self.stride, self.padding, self.dilation, input_size=x.shape[2:])
        x_col = columns(x, win)  # [N, C, cells, places]
        filters = w.flatten(1).unflatten(0, (x.shape[1], -1))  # [C, M, cells]
        y = torch.einsum("cmr,ncrp->ncmp", filters, x_col).flatten(1, 2) + b[:, None]
        size = tuple(x.shape[2:])
        return y.unflatten(2, win.output_size(size)), (x_col, w, win, size)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, C M, *P] -> dx [N, C, *H], dw [C M, 1, *R], db [C M]``."""
        x_col, w, win, size = kept
        channels = (x_col.shape[1], -1)
        delta = delta.flatten(2).unflatten(1, channels)  # [N, C, M, places]
        dx_col = torch.einsum("cmr,ncmp->ncrp", w.flatten(1).unflatten(0, channels), delta)
        dw = torch.einsum("ncmp,ncrp->cmr", delta, x_col)
        return add_columns(dx_col, size, win), dw.reshape(w.shape), delta.sum((0, 3)).flatten()
