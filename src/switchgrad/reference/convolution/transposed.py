"""Transposed convolution ("deconvolution"): the backward of a convolution, used as a forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.reference.convolution.loops import grouped
from switchgrad.reference.patches import cropped, padded, places
from switchgrad.reference.sizes import expect

Kept = tuple[Tensor, Tensor, Window]


@dataclass(frozen=True)
class TransposedConvolution:
    r"""Each input number stamps its filters on the output, stamps adding up where they overlap.

    .. math:: y_{n,k,\; p s + r d - b} \mathrel{+}= x_{n,c,p}\, w_{c,k,r}
       \qquad H' = (H - 1) s - b - e + d (R - 1) + 1 + \text{output padding}

    Backward: what was stamped is read again at the same place, so dx is a plain convolution of ``delta`` with w, and
    dw the sum over all places of the number there times what it reads. The padding cuts off the border.

    >>> y, _ = TransposedConvolution(stride=2).forward(
    ...     torch.tensor([[[1.0, 10.0]]]), torch.tensor([[[1.0, 2.0, 3.0]]]), torch.zeros(1)
    ... )
    >>> y.tolist()
    [[[1.0, 2.0, 13.0, 20.0, 30.0]]]
    """

    stride: IntOrTuple = 1
    padding: Padding = 0
    dilation: IntOrTuple = 1
    output_padding: int = 0
    groups: int = 1

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H], w [C, K/G, *R], b [K] -> y [N, K, *H']``."""
        expect("a transposed convolution's w", w.shape, (x.shape[1], *(None,) * (x.dim() - 1)))
        expect("the bias", b.shape, (w.shape[1] * self.groups,))
        if self.groups < 1 or len(w) % self.groups:
            raise GeometryError(
                f"{len(w)} channels in {self.groups} groups; the number of groups must divide the number of channels"
            )
        win = window(w.dim() - 2, w.shape[2:], self.stride, self.padding, self.dilation)
        for s, d in zip(win.stride, win.dilation, strict=True):
            if not 0 <= self.output_padding < max(s, d):
                raise GeometryError(
                    f"output_padding is {self.output_padding}; give at least 0 and less than the stride or the "
                    f"dilation (they are {s} and {d})"
                )
        axes = zip(x.shape[2:], win.stride, win.effective, strict=True)
        size = [(h - 1) * s + span + self.output_padding for h, s, span in axes]
        wide = x.new_zeros(len(x), len(b), *size)
        for p, seen in places(x.shape[2:], win):
            numbers = grouped(x[p], self.groups)
            wide[seen] += torch.einsum("ngc,gck...->ngk...", numbers, self._filters(w)).flatten(1, 2)
        return cropped(wide, win.padding) + b.reshape(-1, *(1,) * win.dims), (x, w, win)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, K, *H'] -> dx [N, C, *H], dw [C, K/G, *R], db [K]``."""
        x, w, win = kept
        wide = padded(delta, win.padding)
        dx, dw = torch.zeros_like(x), torch.zeros_like(w)
        for p, seen in places(x.shape[2:], win):
            read, numbers = grouped(wide[seen], self.groups), grouped(x[p], self.groups)
            dx[p] = torch.einsum("ngk...,gck...->ngc", read, self._filters(w)).flatten(1)
            dw += torch.einsum("ngc,ngk...->gck...", numbers, read).flatten(0, 1)
        return dx, dw, delta.transpose(0, 1).flatten(1).sum(1)

    def _filters(self, w: Tensor) -> Tensor:
        """The filters in groups: ``[G, C/G, K/G, *R]``."""
        return w.unflatten(0, (self.groups, -1))
