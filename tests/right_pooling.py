"""Max pooling in plain PyTorch, done right, in which every decision is a method: what `mutants` do wrong one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

import loops


def _laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    """``x`` in a layout, by a way that vmap can go."""
    if layout == torch.contiguous_format:
        return x.contiguous()
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class Entrance(torch.autograd.Function):
    """A copy of the input; the gradient gets the input's layout."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.layout = suggest_memory_format(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _laid_out(grad, ctx.layout)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.clone()


class _Graft(torch.autograd.Function):
    """The numbers of ``exact`` with the derivatives of ``source``: PyTorch's gather loses payloads of NaN."""

    generate_vmap_rule = True

    @staticmethod
    def forward(source: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Any) -> Tensor:
        return tangent.clone()


class Pooling:
    """Max pooling over the last two axes, done right: values, flat indices, codes."""

    def __call__(self, x: Tensor, **arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        along = self.axes(x.shape[-2:], **arguments)
        values, codes, indices = self.compete(self.read(x).detach(), along)
        source = self.derive(self.enter(x), indices, values, along)
        rows, columns = indices.div(x.shape[-1], rounding_mode="floor"), indices % x.shape[-1]
        reported = torch.where(indices < 0, -1, self.index(rows, columns, along))
        return tuple(self.lay_out(x, t) for t in (_Graft.apply(source, values), reported, codes))

    # -- geometry
    def axes(self, size: torch.Size, **arguments: Any) -> list[loops.Axis]:
        return loops.axes(tuple(size), **arguments)

    def starts(self, axis: loops.Axis) -> list[int]:
        return axis.starts()

    def read(self, x: Tensor) -> Tensor:
        """The planes as rows of numbers."""
        return x.flatten(-2)

    def index(self, row: Tensor, column: Tensor, along: list[loops.Axis]) -> Tensor:
        """The flat index that is reported for a cell."""
        return row * along[1].size + column

    def code(self, r: int, c: int, along: list[loops.Axis]) -> int:
        return r * along[1].kernel + c

    def inside(self, row: Tensor, column: Tensor, along: list[loops.Axis]) -> Tensor:
        """Which cells may win."""
        return (row >= 0) & (row < along[0].size) & (column >= 0) & (column < along[1].size)

    def cells(self, planes: Tensor, along: list[loops.Axis]) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """For each cell of the window: its code, its flat index, whether it may win, and what stands there."""
        rows, columns = (torch.tensor(self.starts(axis)) for axis in along)
        for r, c in itertools.product(range(along[0].kernel), range(along[1].kernel)):
            row = (rows + r * along[0].dilation)[:, None]
            column = (columns + c * along[1].dilation)[None, :]
            there = row.clamp(0, along[0].size - 1) * along[1].size + column.clamp(0, along[1].size - 1)
            within = (row >= 0) & (row < along[0].size) & (column >= 0) & (column < along[1].size)
            x = self.seen(planes[..., there], within)
            yield self.code(r, c, along), row * along[1].size + column, self.inside(row, column, along), x

    def seen(self, x: Tensor, inside: Tensor) -> Tensor:
        return x

    # -- who wins
    def compete(self, planes: Tensor, along: list[loops.Axis]) -> tuple[Tensor, Tensor, Tensor]:
        shape = (*planes.shape[:-1], *(len(self.starts(axis)) for axis in along))
        best = torch.full(shape, self.lowest(planes.dtype), dtype=planes.dtype)
        codes, indices = torch.full(shape, -1), torch.full(shape, -1)
        for code, index, inside, x in self.cells(planes, along):
            wins = inside & self.beats(x, best, codes < 0)
            best = torch.where(wins, x, best)
            codes = torch.where(wins, code, codes)
            indices = torch.where(wins, index, indices)
        return best, codes.to(torch.uint8), indices

    def lowest(self, dtype: torch.dtype) -> float:
        return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min

    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return (x > best) | (x != x) | first

    # -- backward
    def enter(self, x: Tensor) -> Tensor:
        return Entrance.apply(x)

    def derive(self, x: Tensor, indices: Tensor, values: Tensor, along: list[loops.Axis]) -> Tensor:
        """A tensor like ``values`` from which gradients reach ``x``."""
        taken = x.flatten(-2).gather(-1, indices.clamp_min(0).flatten(-2)).reshape(indices.shape)
        return torch.where(indices < 0, torch.zeros((), dtype=x.dtype), taken)

    def lay_out(self, x: Tensor, result: Tensor) -> Tensor:
        return _laid_out(result, suggest_memory_format(x))
