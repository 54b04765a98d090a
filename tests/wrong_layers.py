"""Written-out layers with one thing wrong, each by one method: what the checks of `harness.written_out` must notice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from declarations.reference_layers import LAYERS
from harness.written_out import Written
from switchgrad import reference as ref
from switchgrad.reference.patches import cells, cropped


@dataclass(frozen=True)
class Wrong:
    """A layer that stands in for that of a declaration, and the check that sees it first."""

    name: str
    case: Written
    killed_by: str

    def with_layer(self, layer: Any) -> Wrong:
        """The same declaration with another layer."""
        return replace(self, case=replace(self.case, layer=layer))


WRONG: list[Wrong] = []


def wrong(case: str, *settings: Any, killed_by: str = "gradients", **named: Any) -> Any:
    """Enter a class into the list, under its own name, as the layer of the declaration ``case``."""

    def enter(kind: Any) -> Any:
        words = "".join(f" {c.lower()}" if c.isupper() else c for c in kind.__name__).strip()
        WRONG.append(Wrong(f"{case}: {words}", replace(LAYERS[case], layer=kind(*settings, **named)), killed_by))
        return kind

    return enter


def only_first_place(delta: Tensor) -> Tensor:
    first = torch.zeros_like(delta)
    first.flatten(2)[:, :, 0] = delta.flatten(2)[:, :, 0]
    return first


@wrong("Convolution 2d")
class KernelNotTurned(ref.Convolution):
    def backward(self, delta, kept):
        wide, w, win = kept
        return super().backward(delta, (wide, w.flip(2, 3), win))


@wrong("Convolution 2d")
class FilterLearnsFromOnePlace(ref.Convolution):
    def backward(self, delta, kept):
        dx, _, db = super().backward(delta, kept)
        return dx, super().backward(only_first_place(delta), kept)[1], db


@wrong("Convolution 2d")
class FilterTakesTheMeanOfThePlaces(ref.Convolution):
    def backward(self, delta, kept):
        dx, dw, db = super().backward(delta, kept)
        return dx, dw / delta[0, 0].numel(), db


@wrong("Convolution 2d")
class BiasOfOnePlace(ref.Convolution):
    def backward(self, delta, kept):
        return *super().backward(delta, kept)[:2], super().backward(only_first_place(delta), kept)[2]


@wrong("Convolution 2d", killed_by="values")
class TrueConvolution(ref.Convolution):
    def forward(self, x, w, b):
        return super().forward(x, w.flip(2, 3), b)


@wrong("Convolution 2d dilation, groups", dilation=(2, 3), groups=2)
class GroupsMixedUp(ref.Convolution):
    def backward(self, delta, kept):
        wide, w, win = kept
        return super().backward(delta, (wide, w.unflatten(0, (-1, 2)).transpose(0, 1).flatten(0, 1), win))


@wrong("Convolution 2d stride, padding", stride=(2, 3), padding=(1, 2))
class GradientNotCutBack(ref.Convolution):
    def backward(self, delta, kept):
        dx, dw, db = super().backward(delta, kept)
        return torch.nn.functional.pad(dx, (2, 2, 1, 1)), dw, db


@wrong("Convolution 2d", killed_by="manners")
class ChangesItsInput(ref.Convolution):
    def forward(self, x, w, b):
        return super().forward(x.mul_(1 + 1e-13), w, b)


@wrong("ConvolutionIm2col 2d")
class OverlapsNotAdded(ref.ConvolutionIm2col):
    def backward(self, delta, kept):
        _, w, win, size = kept
        dx, dw, db = super().backward(delta, kept)
        dx_col = (self._rows(w).mT @ delta.flatten(2).unflatten(1, (self.groups, -1))).unflatten(2, (-1, win.cells))
        wide = torch.zeros(
            *dx.shape[:2], *(h + b + e for h, (b, e) in zip(size, win.padding, strict=True)), dtype=dx.dtype
        )
        for r, met in enumerate(cells(win.output_size(size), win)):
            wide[met] = dx_col.flatten(1, 2)[:, :, r].unflatten(2, win.output_size(size))
        return cropped(wide, win.padding), dw, db


@wrong("ConvolutionIm2col 2d stride, padding", stride=(2, 3), padding=(1, 2))
class OnlyTheLastExample(ref.ConvolutionIm2col):
    def backward(self, delta, kept):
        dx, _, db = super().backward(delta, kept)
        late = delta.clone()
        late[:-1] = 0
        return dx, super().backward(late, kept)[1], db


@wrong("TransposedConvolution 2d", stride=(2, 1), padding=(1, 1))
class StampsTurned(ref.TransposedConvolution):
    def backward(self, delta, kept):
        x, w, win = kept
        return super().backward(delta, (x, w.flip(2, 3), win))


@wrong("TransposedConvolution 1d", killed_by="values", stride=2)
class OutputPaddingForgotten(ref.TransposedConvolution):
    pass


@wrong("PointwiseConvolution")
class MatrixNotTransposed(ref.PointwiseConvolution):
    def backward(self, delta, kept):
        dx, dw, db = super().backward(delta, kept)
        return dx, dw.flip(1), db


@wrong("DepthwiseConvolution", stride=2, padding=1)
class FiltersOfAChannelChanged(ref.DepthwiseConvolution):
    def backward(self, delta, kept):
        x_col, w, win, size = kept
        return super().backward(delta, (x_col, w.unflatten(0, (-1, 2)).flip(1).flatten(0, 1), win, size))


@wrong("LocallyConnected 1d", stride=2)
class PlacesShare(ref.LocallyConnected):
    def backward(self, delta, kept):
        dx, dw, db = super().backward(delta, kept)
        return dx, dw.sum(0, keepdim=True).expand_as(dw), db


@wrong("Linear")
class MeanOfTheExamples(ref.Linear):
    def backward(self, delta, kept):
        da, dW, db = super().backward(delta, kept)
        return da, dW / len(delta), db


@wrong("Linear")
class BiasOfOneExample(ref.Linear):
    def backward(self, delta, kept):
        return *super().backward(delta, kept)[:2], delta[0]


@wrong("Sigmoid")
class SlopeOfTheInput(ref.Sigmoid):
    def forward(self, z):
        return super().forward(z)[0], z


@wrong("Tanh")
class SquareForgotten(ref.Tanh):
    def backward(self, delta, kept):
        return (delta * (1 - kept),)


@wrong("ReLU at 0")
class PassesAtZero(ref.ReLU):
    def forward(self, z):
        return super().forward(z)[0], z >= 0


@wrong("ReLU")
class PassesEverything(ref.ReLU):
    def backward(self, delta, kept):
        return (delta,)


@wrong("ReLU")
class GoesByTheGradient(ref.ReLU):
    """DeconvNet's rule, which is not the derivative."""

    def backward(self, delta, kept):
        return (delta.clamp(min=0),)


@wrong("LeakyReLU at 0", 0.2)
class SlopeOneAtZero(ref.LeakyReLU):
    def forward(self, z):
        return super().forward(z)[0], torch.where(z >= 0, 1.0, self.alpha).to(z.dtype)


@wrong("PReLU")
class SlopeOfOneExample(ref.PReLU):
    def backward(self, delta, kept):
        z, slope = kept
        return super().backward(delta, kept)[0], super().backward(delta[:1], (z[:1], slope))[1]


@wrong("ELU", 1.3)
class AlphaForgotten(ref.ELU):
    def backward(self, delta, kept):
        return (torch.where(kept > 0, delta, delta * torch.exp(kept)),)


@wrong("Maxout")
class EveryPieceLearns(ref.Maxout):
    def backward(self, delta, kept):
        x, W, won = kept
        return super().backward(delta, (x, W, torch.ones_like(won)))


@wrong("Softmax")
class DiagonalOnly(ref.Softmax):
    def backward(self, delta, kept):
        return (delta * kept * (1 - kept),)


@wrong("Softmax far out", killed_by="values")
class Overflows(ref.Softmax):
    def forward(self, z):
        p = torch.exp(z) / torch.exp(z).sum(1, keepdim=True)
        return p, p


def seen(mutant: Wrong, checks: dict[str, Any]) -> Iterator[str]:
    """The checks that fail on a mutant, in their order."""
    for name, check in checks.items():
        try:
            check(mutant.case)
        except AssertionError:
            yield name
