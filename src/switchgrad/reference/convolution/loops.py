"""Convolution in 1, 2 and 3 dimensions, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.geometry import IntOrTuple, Padding, Pair, Window, window
from switchgrad.reference.patches import cropped, padded, places
from switchgrad.reference.sizes import expect_filters

Kept = tuple[Tensor, Tensor, Window]


@dataclass(frozen=True)
class Convolution:
    r"""Slide K filters over the input; at each place, the dot product of filter and patch, plus a bias.

    .. math:: y_{n,k,p} = b_k + \sum_{c,r} w_{k,c,r}\, x_{n,c,\; p s + r d - b}

    Backward, with ``delta`` = dJ/dy: the gradient of the input is a full correlation of delta, zeros between its
    numbers where the stride hopped, with the kernel turned by 180 degrees; the gradient of the filter is the sum over
    all places that share it; that of the bias, the sum of delta.

    .. math:: \frac{\partial J}{\partial x_{n,c,h}} = \sum_{k,r} \delta_{n,k,(h + b - r d)/s}\, w_{k,c,r}
       \qquad \frac{\partial J}{\partial w_{k,c,r}} = \sum_{n,p} \delta_{n,k,p}\, x_{n,c,\; p s + r d - b}

    A size that the stride does not divide leaves the last cells unseen (floor); their gradient is 0. The padding is
    at most the kernel's span less 1 on each side, ``"same"`` or ``"valid"``. With G groups, filters of group g see the
    channels of group g only.

    >>> vertical_edge = torch.tensor([[[[1.0, 0.0, -1.0]] * 3]])
    >>> x = torch.tensor([[[[3.0, 0.0, 1.0], [1.0, 5.0, 8.0], [2.0, 7.0, 2.0]]]])
    >>> Convolution().forward(x, vertical_edge, torch.zeros(1))[0].item()
    -5.0
    """

    stride: IntOrTuple = 1
    padding: Padding = 0
    dilation: IntOrTuple = 1
    groups: int = 1

    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H], w [K, C/G, *R], b [K] -> y [N, K, *P]``."""
        expect_filters(x, w, b, self.groups)
        win = window(w.dim() - 2, w.shape[2:], self.stride, self.padding, self.dilation, input_size=x.shape[2:])
        wide = padded(x, win.padding)
        return correlate(wide, w, b, win, win.output_size(x.shape[2:]), self.groups), (wide, w, win)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
        """``delta [N, K, *P] -> dx [N, C, *H], dw [K, C/G, *R], db [K]``."""
        dw = self._of_the_filters(delta, kept)
        return self._of_the_input(delta, kept), dw, delta.transpose(0, 1).flatten(1).sum(1)

    def _of_the_input(self, delta: Tensor, kept: Kept) -> Tensor:
        """A full correlation of delta with the turned kernel, one step of which is one cell of the input."""
        wide, w, win = kept
        size = cropped(wide, win.padding).shape[2:]
        full = padded(spread(delta, win), full_padding(size, delta.shape[2:], win))
        step = Window(win.kernel_size, (1,) * win.dims, win.padding, win.dilation)
        return correlate(full, turned(w, self.groups), w.new_zeros(wide.shape[1]), step, size, self.groups)

    def _of_the_filters(self, delta: Tensor, kept: Kept) -> Tensor:
        """The sum over all places of delta there times the patch there."""
        wide, w, win = kept
        dw = torch.zeros_like(w)
        for p, seen in places(delta.shape[2:], win):
            here, patch = grouped(delta[p], self.groups), grouped(wide[seen], self.groups)
            dw += torch.einsum("ngk,ngc...->gkc...", here, patch).flatten(0, 1)
        return dw


def correlate(x: Tensor, w: Tensor, b: Tensor, win: Window, count: Sequence[int], groups: int) -> Tensor:
    """At each of ``count`` places, the dot product of every filter with the patch of the padded map, plus a bias."""
    y = x.new_zeros(len(x), len(w), *count)
    for p, seen in places(count, win):
        dots = torch.einsum("ngc...,gkc...->ngk", grouped(x[seen], groups), w.unflatten(0, (groups, -1)))
        y[p] = dots.flatten(1) + b
    return y


def grouped(x: Tensor, groups: int) -> Tensor:
    """The channels in groups: ``[N, C, ...] -> [N, G, C/G, ...]``."""
    return x.unflatten(1, (groups, -1))


def turned(w: Tensor, groups: int) -> Tensor:
    """The filters turned by 180 degrees, outputs and inputs changed round: ``[K, C/G, *R] -> [C, K/G, *R]``."""
    return w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(tuple(range(2, w.dim())))


def spread(delta: Tensor, win: Window) -> Tensor:
    """``s - 1`` zeros between neighbours, so that one step of the result is one cell of the input."""
    size = [(p - 1) * s + 1 for p, s in zip(delta.shape[2:], win.stride, strict=True)]
    y = delta.new_zeros(*delta.shape[:2], *size)
    y[(..., *(slice(None, None, s) for s in win.stride))] = delta
    return y


def full_padding(size: Sequence[int], count: Sequence[int], win: Window) -> list[Pair]:
    """Padding by the kernel's span less 1, less our own: the turned kernel then meets every number that saw a cell."""
    axes = zip(size, count, win.stride, win.effective, win.padding, strict=True)
    return [(span - 1 - b, h + b - 1 - (p - 1) * s) for h, p, s, span, (b, _) in axes]
