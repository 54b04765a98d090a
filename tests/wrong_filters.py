"""Blurred pooling and Gaussian averages written out in plain PyTorch, done right and with one thing wrong each.

Each mutant overrides one method. That the right ones pass the harness is a test as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import loops
from harness.declaration import Mutant
from right_average import Averaging
from right_average import _NoBackward as Rescaled
from right_pooling import Entrance


class Filtering:
    """What both have in common: sums of cells under weights, over the last two axes."""

    def wide(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float32 if dtype.itemsize == 2 else dtype

    def term(self, cell: Tensor, inside: Tensor, weight: float, at: tuple[int, ...]) -> Tensor:
        return torch.where(inside, cell, torch.zeros((), dtype=cell.dtype)) * weight

    lay_out = Averaging.lay_out


class Blur(Filtering):
    """Blurred pooling, called as the operator is."""

    def __call__(self, x: Tensor, kernel_size: int = 3, stride: Any = 2, padding_mode: str = "reflect") -> Tensor:
        steps = (stride,) * 2 if isinstance(stride, int) else stride
        row = self.row(kernel_size)
        wide = Entrance.apply(x).to(self.wide(x.dtype))
        starts = [self.starts(h, s, kernel_size) for h, s in zip(x.shape[-2:], steps, strict=True)]
        total = 0
        for at in itertools.product(range(kernel_size), repeat=2):
            near = [start + i for start, i in zip(starts, at, strict=True)]
            cells = [self.beyond(i, h, padding_mode) for i, h in zip(near, x.shape[-2:], strict=True)]
            inside = (cells[0] >= 0)[:, None] & (cells[1] >= 0)[None, :]
            cell = wide[..., cells[0].clamp_min(0)[:, None], cells[1].clamp_min(0)[None, :]]
            total = total + self.term(self.folded(cell, near, x.shape[-2:]), inside, row[at[0]] * row[at[1]], at)
        return self.lay_out(x, total.to(x.dtype))

    def row(self, size: int) -> list[float]:
        return [math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)]

    def starts(self, cells: int, stride: int, size: int) -> Tensor:
        return torch.arange((cells - 1) // stride + 1) * stride - self.before(size)

    def before(self, size: int) -> int:
        return (size - 1) // 2

    def beyond(self, at: Tensor, size: int, mode: str) -> Tensor:
        """The cells at places along an axis, -1 for none."""
        if mode == "replicate":
            return at.clamp(0, size - 1)
        if mode == "zeros":
            return torch.where((at < 0) | (at >= size), -1, at)
        return torch.where(at < 0, -at, torch.where(at >= size, 2 * (size - 1) - at, at))

    def folded(self, cell: Tensor, near: list[Tensor], size: torch.Size) -> Tensor:
        """A cell's numbers, those from beyond the border with a gradient of their own."""
        return cell


class Gaussian(Filtering):
    """Averages under Gaussian weights, called as the operator is."""

    def __call__(self, x: Tensor, sigma: float = 1.0, **window: Any) -> Tensor:
        along = loops.axes(tuple(x.shape[-2:]), **window)
        rows, columns = (torch.tensor(axis.starts()) for axis in along)
        wide = Entrance.apply(x).to(self.wide(x.dtype))
        total, seen = 0, torch.zeros((), dtype=wide.dtype)
        for at in itertools.product(*(range(axis.kernel) for axis in along)):
            weight = math.exp(-self.squared(at, along) / self.twice_squared(sigma))
            row = (rows + at[0] * along[0].dilation)[:, None]
            column = (columns + at[1] * along[1].dilation)[None, :]
            inside = (row >= 0) & (row < along[0].size) & (column >= 0) & (column < along[1].size)
            cell = wide[..., row.clamp(0, along[0].size - 1), column.clamp(0, along[1].size - 1)]
            total = total + self.term(cell, inside, weight, at)
            seen = seen + self.counts(inside) * weight
        return self.lay_out(x, (total / seen.to(wide.dtype)).to(x.dtype))

    def centre(self, kernel: int) -> float:
        return (kernel - 1) / 2

    def squared(self, at: tuple[int, ...], along: list[loops.Axis]) -> float:
        return sum(((i - self.centre(a.kernel)) * a.dilation) ** 2 for i, a in zip(at, along, strict=True))

    def twice_squared(self, sigma: float) -> float:
        return 2 * sigma**2

    def counts(self, inside: Tensor) -> Tensor:
        return inside.double()


# ---- one thing wrong ---------------------------------------------------------------------------------------------

VALUES, GRADIENTS = "values_equal_the_loops", "gradients_equal_the_loops"
BLUR: list[Mutant] = []
GAUSSIAN: list[Mutant] = []


def mutant(name: str, killed_by: str = VALUES) -> Callable[[type[Filtering]], type[Filtering]]:
    """Adds a variant to the list of its operator."""

    def add(variant: type[Filtering]) -> type[Filtering]:
        (BLUR if issubclass(variant, Blur) else GAUSSIAN).append(Mutant(name, variant(), killed_by))
        return variant

    return add


@mutant("a box instead of binomial coefficients")
class _(Blur):
    def row(self, size: int) -> list[float]:
        return [1 / size] * size


@mutant("the coefficients of one size more")
class _(Blur):
    def row(self, size: int) -> list[float]:
        return super().row(size + 1)[:size]


@mutant("not divided by their sum")
class _(Blur):
    def row(self, size: int) -> list[float]:
        return [float(math.comb(size - 1, i)) for i in range(size)]


@mutant("the border cell is reflected too")
class _(Blur):
    def beyond(self, at: Tensor, size: int, mode: str) -> Tensor:
        if mode != "reflect":
            return super().beyond(at, size, mode)
        return torch.where(at < 0, -at - 1, torch.where(at >= size, 2 * size - 1 - at, at))


@mutant("repeated instead of reflected")
class _(Blur):
    def beyond(self, at: Tensor, size: int, mode: str) -> Tensor:
        return super().beyond(at, size, "replicate" if mode == "reflect" else mode)


@mutant("reflected instead of repeated")
class _(Blur):
    def beyond(self, at: Tensor, size: int, mode: str) -> Tensor:
        return super().beyond(at, size, "reflect" if mode == "replicate" else mode)


@mutant("repeated instead of empty")
class _(Blur):
    def beyond(self, at: Tensor, size: int, mode: str) -> Tensor:
        return super().beyond(at, size, "replicate" if mode == "zeros" else mode)


@mutant("reflected around the first cell at both ends")
class _(Blur):
    def beyond(self, at: Tensor, size: int, mode: str) -> Tensor:
        return super().beyond(at, size, mode) if mode != "reflect" else torch.where(at >= size, size - 1, at).abs()


@mutant("even filters start one cell early")
class _(Blur):
    def before(self, size: int) -> int:
        return size // 2


@mutant("strides off by one")
class _(Blur):
    def starts(self, cells: int, stride: int, size: int) -> Tensor:
        found = super().starts(cells, stride, size)
        return found - (torch.arange(len(found)) > 0).long()


@mutant("the last cell twice")
class _(Blur):
    def term(self, cell: Tensor, inside: Tensor, weight: float, at: tuple[int, ...]) -> Tensor:
        return super().term(cell, inside, weight * (2 if at == (1, 1) else 1), at)


@mutant("what reaches over the border is dropped on the way back", GRADIENTS)
class _(Blur):
    def folded(self, cell: Tensor, near: list[Tensor], size: torch.Size) -> Tensor:
        over = [(i < 0) | (i >= h) for i, h in zip(near, size, strict=True)]
        return torch.where(over[0][:, None] | over[1][None, :], Rescaled.apply(cell, 0.0), cell)


@mutant("the gradient is not weighted", GRADIENTS)
class _(Blur):
    def term(self, cell: Tensor, inside: Tensor, weight: float, at: tuple[int, ...]) -> Tensor:
        return super().term(Rescaled.apply(cell, 1 / weight), inside, weight, at)


@mutant("the distance from the first cell")
class _(Gaussian):
    def centre(self, kernel: int) -> float:
        return 0


@mutant("the centre rounded down")
class _(Gaussian):
    def centre(self, kernel: int) -> float:
        return (kernel - 1) // 2


@mutant("dilation does not count in the distance")
class _(Gaussian):
    def squared(self, at: tuple[int, ...], along: list[loops.Axis]) -> float:
        return sum((i - self.centre(a.kernel)) ** 2 for i, a in zip(at, along, strict=True))


@mutant("the sum of distances, not the distance")
class _(Gaussian):
    def squared(self, at: tuple[int, ...], along: list[loops.Axis]) -> float:
        return sum(abs(i - self.centre(a.kernel)) * a.dilation for i, a in zip(at, along, strict=True)) ** 2


@mutant("sigma is not squared")
class _(Gaussian):
    def twice_squared(self, sigma: float) -> float:
        return 2 * sigma


@mutant("sigma squared without the 2")
class _(Gaussian):
    def twice_squared(self, sigma: float) -> float:
        return sigma**2


@mutant("padding counts")
class _(Gaussian):
    def counts(self, inside: Tensor) -> Tensor:
        return torch.ones_like(inside).double()


@mutant("padding repeats the edge")
class _(Gaussian):
    def term(self, cell: Tensor, inside: Tensor, weight: float, at: tuple[int, ...]) -> Tensor:
        return cell * weight


@mutant("the weights are forgotten on the way back", GRADIENTS)
class _(Gaussian):
    def term(self, cell: Tensor, inside: Tensor, weight: float, at: tuple[int, ...]) -> Tensor:
        return super().term(Rescaled.apply(cell, 1 / weight), inside, weight, at)
