"""Convolution by Winograd's algorithm written out in plain PyTorch, done right and with one thing wrong each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.declaration import Mutant

# Tiles of two outputs. Three taps: the points 0, 1, -1 and infinity.
B = torch.tensor([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
G = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A = torch.tensor([[1.0, 1, 1, 0], [0, 1, -1, -1]])

# Five taps: the points 0, a, -a, b, -b and infinity, the filters divided by what the points differ by.
POINTS = torch.tensor([0.0, 2 / 3, -2 / 3, 4 / 3, -4 / 3], dtype=torch.float64)


def _product(points: Tensor) -> Tensor:
    """The coefficients of the polynomial with these roots, the lowest first."""
    found = torch.ones(1, dtype=points.dtype)
    for point in points:
        found = F.pad(found, (1, 0)) - point * F.pad(found, (0, 1))
    return found


def _others(i: int) -> Tensor:
    return torch.cat((POINTS[:i], POINTS[i + 1 :]))


def _last(row: int, columns: int) -> Tensor:
    return torch.eye(columns, dtype=torch.float64)[row : row + 1]


B5 = torch.cat((*(F.pad(_product(_others(i)), (0, 1))[None] for i in range(5)), _product(POINTS)[None]))
SCALE = torch.stack([(POINTS[i] - _others(i)).prod() for i in range(5)])
G5 = torch.cat((POINTS[:, None] ** torch.arange(5) / SCALE[:, None], _last(4, 5)))
A5 = torch.cat((POINTS[:, None] ** torch.arange(2), _last(1, 2))).mT


def both_ways(matrix: Tensor, x: Tensor) -> Tensor:
    """The transform of the last two axes."""
    matrix = matrix.to(x.dtype)
    return matrix @ x @ matrix.mT


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, method: Winograd, x: Tensor, weight: Tensor, bias: Tensor | None, pads: Any) -> Tensor:
        ctx.method, ctx.pads, ctx.has_bias = method, pads, bias is not None
        ctx.save_for_backward(x, weight)
        y = method.convolve(x, weight, pads)
        return y if bias is None else method.add(y, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), method = ctx.saved_tensors, ctx.method
        dx = method.to_input(grad, weight, ctx.pads)
        return None, dx, method.to_weight(x, grad, ctx.pads), grad.sum((0, 2, 3)) if ctx.has_bias else None, None


class Winograd:
    """The operator done right; every decision is a method."""

    B, G, A = B, G, A

    @property
    def reach(self) -> int:
        """How much further than a tile a patch goes."""
        return self.G.shape[1] - 1

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: Any = 0) -> Tensor:
        pads = (padding, padding) if isinstance(padding, int) else padding
        y = _Run.apply(self, x if x.dim() == 4 else x[None], weight, bias, pads)
        return y if x.dim() == 4 else y[0]

    def tiles(self, places: int) -> int:
        return -(-places // 2)

    def patches(self, x: Tensor, pads: tuple[int, int], places: tuple[int, int]) -> Tensor:
        """(N, C, tile rows, tile columns) of patches."""
        rows, columns = (2 * self.tiles(n) + self.reach for n in places)
        x = F.pad(x, (pads[1], columns - x.shape[3] - pads[1], pads[0], rows - x.shape[2] - pads[0]))
        return x.unfold(2, 2 + self.reach, 2).unfold(3, 2 + self.reach, 2)

    def filters(self, weight: Tensor) -> Tensor:
        return both_ways(self.G, weight)

    def inputs(self, patches: Tensor) -> Tensor:
        return both_ways(self.B, patches)

    def convolve(self, x: Tensor, weight: Tensor, pads: tuple[int, int]) -> Tensor:
        places = (x.shape[2] + 2 * pads[0] - self.reach, x.shape[3] + 2 * pads[1] - self.reach)
        products = torch.einsum("nctuij,kcij->nktuij", self.inputs(self.patches(x, pads, places)), self.filters(weight))
        return self.assemble(both_ways(self.A, products), places)

    def assemble(self, tiles: Tensor, places: tuple[int, int]) -> Tensor:
        n, k, rows, columns = tiles.shape[:4]
        whole = tiles.permute(0, 1, 2, 4, 3, 5).reshape(n, k, 2 * rows, 2 * columns)
        return whole[..., : places[0], : places[1]].contiguous()

    def add(self, y: Tensor, bias: Tensor) -> Tensor:
        return y + bias[:, None, None]

    def turned(self, weight: Tensor) -> Tensor:
        return weight.flip(2, 3).transpose(0, 1)

    def to_input(self, grad: Tensor, weight: Tensor, pads: tuple[int, int]) -> Tensor:
        return self.convolve(grad, self.turned(weight), (self.reach - pads[0], self.reach - pads[1]))

    def grads(self, grad: Tensor) -> Tensor:
        """The tiles of the gradient, (N, K, tile rows, tile columns, 2, 2)."""
        rows, columns = (2 * self.tiles(n) - n for n in grad.shape[2:])
        return F.pad(grad, (0, columns, 0, rows)).unfold(2, 2, 2).unfold(3, 2, 2)

    def to_weight(self, x: Tensor, grad: Tensor, pads: tuple[int, int]) -> Tensor:
        inputs = self.inputs(self.patches(x, pads, tuple(grad.shape[2:])))
        grads = both_ways(self.A.mT, self.grads(grad))
        return both_ways(self.G.mT, torch.einsum("nctuij,nktuij->kcij", inputs, grads))


class FiveTaps(Winograd):
    """The same with 5x5 taps."""

    B, G, A = B5, G5, A5


# ---- one thing wrong ---------------------------------------------------------------------------------------------

LOOPS, GRADIENT = "values_equal_the_loops", "gradients_equal_the_loops"
MUTANTS: list[Mutant] = []
MUTANTS_OF_FIVE: list[Mutant] = []


def mutant(name: str, killed_by: str) -> Callable[[type[Winograd]], type[Winograd]]:
    """Adds a variant to the list."""

    def add(variant: type[Winograd]) -> type[Winograd]:
        of_five = issubclass(variant, FiveTaps)
        (MUTANTS_OF_FIVE if of_five else MUTANTS).append(Mutant(name, variant(), killed_by))
        return variant

    return add


@mutant("a sign of the input's transform is wrong", LOOPS)
class _(Winograd):
    def inputs(self, patches: Tensor) -> Tensor:
        wrong = B.clone()
        wrong[2, 1] = 1
        return both_ways(wrong, patches)


@mutant("the filters are halved once too rarely", LOOPS)
class _(Winograd):
    def filters(self, weight: Tensor) -> Tensor:
        return both_ways(G * torch.tensor([[1.0], [2], [1], [1]]), weight)


@mutant("what the last tile leaves over is moved to its front", LOOPS)
class _(Winograd):
    def assemble(self, tiles: Tensor, places: tuple[int, int]) -> Tensor:
        rows = 2 * tiles.shape[2] - places[0]
        return super().assemble(tiles, (places[0] + rows, places[1]))[:, :, rows:]


@mutant("rows and columns of the padding are swapped", LOOPS)
class _(Winograd):
    def patches(self, x: Tensor, pads: tuple[int, int], places: tuple[int, int]) -> Tensor:
        return super().patches(x, pads[::-1], places)


@mutant("the bias meets tiles before their transform", LOOPS)
class _(Winograd):
    def add(self, y: Tensor, bias: Tensor) -> Tensor:
        return y + 4 * bias[:, None, None]


@mutant("the filters are not turned around on the way back", GRADIENT)
class _(Winograd):
    def turned(self, weight: Tensor) -> Tensor:
        return weight.transpose(0, 1)


@mutant("the input's gradient is padded as the input was", GRADIENT)
class _(Winograd):
    def to_input(self, grad: Tensor, weight: Tensor, pads: tuple[int, int]) -> Tensor:
        size = [n + 2 - 2 * p for n, p in zip(grad.shape[2:], pads, strict=True)]
        found = self.convolve(grad, self.turned(weight), pads)
        return F.pad(found, (0, size[1] - found.shape[3], 0, size[0] - found.shape[2]))


@mutant("the weights' gradient forgets the last column of tiles", GRADIENT)
class _(Winograd):
    def grads(self, grad: Tensor) -> Tensor:
        tiles = super().grads(grad).clone()
        tiles[:, :, :, -1] = 0
        return tiles


@mutant("the weights' gradient counts the first image only", GRADIENT)
class _(Winograd):
    def to_weight(self, x: Tensor, grad: Tensor, pads: tuple[int, int]) -> Tensor:
        return super().to_weight(x[:1], grad[:1], pads)


@mutant("the filters forget the last channel", LOOPS)
class _(Winograd):
    def filters(self, weight: Tensor) -> Tensor:
        found = super().filters(weight).clone()
        found[:, -1] = 0
        return found


def _changed(matrix: Tensor, row: int, column: int, number: float) -> Tensor:
    changed = matrix.clone()
    changed[row, column] = number
    return changed


@mutant("the point 2/3 is taken for 1/3 in the output's transform", LOOPS)
class _(FiveTaps):
    A = _changed(A5, 1, 1, 1 / 3)


@mutant("what lies at infinity is forgotten", LOOPS)
class _(FiveTaps):
    A = _changed(A5, 1, 5, 0)


@mutant("the filters lose their fifth tap", LOOPS)
class _(FiveTaps):
    G = _changed(G5, 5, 4, 0)


@mutant("the filters are transposed", LOOPS)
class _(FiveTaps):
    def filters(self, weight: Tensor) -> Tensor:
        return super().filters(weight.mT)


@mutant("the filters are turned around twice on the way back", GRADIENT)
class _(FiveTaps):
    def turned(self, weight: Tensor) -> Tensor:
        return super().turned(weight).flip(2, 3)


@mutant("the weights' gradient is not scaled", GRADIENT)
class _(FiveTaps):
    def to_weight(self, x: Tensor, grad: Tensor, pads: tuple[int, int]) -> Tensor:
        return super().to_weight(x, grad, pads) / float(G5[0, 0])
