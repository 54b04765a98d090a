"""Adaptive max pooling with one thing wrong: what the harness must notice.

Each mutant overrides one method of `Maxima`. That the right one passes the harness is a test as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.declaration import Mutant
from switchgrad.ops.layout import in_layout_of

LOOPS = "values_equal_the_loops"


class _Taken(torch.autograd.Function):
    """The numbers at flat indices, whose backward keeps one gradient for each cell."""

    generate_vmap_rule = True

    @staticmethod
    def forward(planes: Tensor, index: Tensor) -> Tensor:
        return planes.gather(-1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        planes, index = ctx.saved_tensors
        return torch.zeros_like(planes).scatter(-1, index, grad), None


class Maxima:
    """Adaptive max pooling over two axes: called as the operator is, gives values and flat indices."""

    def begin(self, p: int, size: int, places: int) -> int:
        return p * size // places

    def end(self, p: int, size: int, places: int) -> int:
        return -(-(p + 1) * size // places)

    def order(self, cells: Tensor) -> Tensor:
        """Flat cells of a window (an array), in the order in which they are looked at."""
        return cells.flatten()

    def winner(self, window: Tensor) -> Tensor:
        """Which of the cells wins: first of ties, NaN before all, of several the last."""
        nan = window.isnan()
        place = torch.arange(window.shape[-1])
        last = torch.where(nan, place, -1).amax(-1)
        best = window.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax(-1)
        return torch.where(nan.any(-1), last, best)

    def take(self, planes: Tensor, index: Tensor) -> Tensor:
        return planes.gather(-1, index)

    def __call__(self, x: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
        given = (output_size,) * 2 if isinstance(output_size, int) else output_size
        size = x.shape[-2:]
        places = [h if p is None else p for h, p in zip(size, given, strict=True)]
        rows, columns = (
            [slice(self.begin(p, h, n), self.end(p, h, n)) for p in range(n)] for h, n in zip(size, places, strict=True)
        )
        cells = torch.arange(size.numel()).reshape(size)
        planes = x.flatten(-2)
        found = []
        for row in rows:
            for column in columns:
                order = self.order(cells[row, column])
                found.append(order[self.winner(planes.detach()[..., order])])
        index = torch.stack(found, -1)
        shape = (*x.shape[:-2], *places)
        return tuple(in_layout_of(x, t.reshape(shape)) for t in (self.take(planes, index), index))  # type: ignore


class EndsRoundedDown(Maxima):
    def end(self, p: int, size: int, places: int) -> int:
        return max((p + 1) * size // places, self.begin(p, size, places) + 1)


class BeginsRoundedUp(Maxima):
    def begin(self, p: int, size: int, places: int) -> int:
        return min(-(-p * size // places), self.end(p, size, places) - 1)


class OneCellMore(Maxima):
    def end(self, p: int, size: int, places: int) -> int:
        return min(super().end(p, size, places) + 1, size)


class ColumnsFirst(Maxima):
    def order(self, cells: Tensor) -> Tensor:
        return cells.T.flatten()


class LastOfTies(Maxima):
    def order(self, cells: Tensor) -> Tensor:
        return cells.flatten().flip(0)


class NanIsNothing(Maxima):
    def winner(self, window: Tensor) -> Tensor:
        return window.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax(-1)


class FirstOfNan(Maxima):
    def winner(self, window: Tensor) -> Tensor:
        first = window.isnan().to(torch.int8).argmax(-1)
        return torch.where(window.isnan().any(-1), first, super().winner(window))


class Smallest(Maxima):
    def winner(self, window: Tensor) -> Tensor:
        return super().winner(-window)


class SharedCellsKeepOne(Maxima):
    def take(self, planes: Tensor, index: Tensor) -> Tensor:
        return _Taken.apply(planes, index)  # type: ignore


MUTANTS = (
    *(
        Mutant(name, variant(), LOOPS)
        for name, variant in {
            "ends rounded down": EndsRoundedDown,
            "begins rounded up": BeginsRoundedUp,
            "one cell more": OneCellMore,
            "columns first": ColumnsFirst,
            "last of ties": LastOfTies,
            "NaN is nothing": NanIsNothing,
            "first of NaN": FirstOfNan,
            "smallest": Smallest,
        }.items()
    ),
    Mutant("shared cells keep one gradient", SharedCellsKeepOne(), "gradients_equal_the_loops"),
)
