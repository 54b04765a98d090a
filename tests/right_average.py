"""Average pooling in plain PyTorch, done right, in which every decision is a method, and variants with one thing wrong.

The derivatives are PyTorch's own, of the sums as they are written here.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

import loops
from harness.declaration import Mutant
from right_pooling import Entrance


class Averaging:
    """Average pooling over the last two axes, done right."""

    def __call__(
        self, x: Tensor, count_include_pad: bool = True, divisor_override: int | None = None, **arguments: Any
    ) -> Tensor:
        along = self.axes(x.shape[-2:], **arguments)
        rows, columns = (torch.tensor(self.starts(axis)) for axis in along)
        wide = Entrance.apply(x).to(self.wide(x.dtype))
        total, counted = 0, 0
        for r, c in itertools.product(*(range(self.kernel(axis)) for axis in along)):
            row = (rows + r * along[0].dilation)[:, None]
            column = (columns + c * along[1].dilation)[None, :]
            inside = (row >= 0) & (row < along[0].size) & (column >= 0) & (column < along[1].size)
            padded = (row < along[0].size + along[0].end) & (column < along[1].size + along[1].end)
            cell = wide[..., row.clamp(0, along[0].size - 1), column.clamp(0, along[1].size - 1)]
            total = total + self.term(cell, inside, (r, c))
            counted = counted + self.counts(inside, padded, count_include_pad)
        divisor = self.divisor(counted.clamp_min(1), divisor_override).to(wide.dtype)
        return self.lay_out(x, (total / divisor).to(x.dtype))

    def axes(self, size: torch.Size, **arguments: Any) -> list[loops.Axis]:
        return loops.axes(tuple(size), **arguments)

    def starts(self, axis: loops.Axis) -> list[int]:
        return axis.starts()

    def kernel(self, axis: loops.Axis) -> int:
        return axis.kernel

    def wide(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float32 if dtype.itemsize == 2 else dtype

    def term(self, cell: Tensor, inside: Tensor, at: tuple[int, int]) -> Tensor:
        return torch.where(inside, cell, torch.zeros((), dtype=cell.dtype))

    def counts(self, inside: Tensor, padded: Tensor, include: bool) -> Tensor:
        return (padded if include else inside).int()

    def divisor(self, counted: Tensor, override: int | None) -> Tensor:
        return counted if override is None else torch.full_like(counted, override)

    def lay_out(self, x: Tensor, result: Tensor) -> Tensor:
        if suggest_memory_format(x) == torch.contiguous_format:
            return result.contiguous()
        return result.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class _PaddingAlwaysCounts(Averaging):
    def counts(self, inside: Tensor, padded: Tensor, include: bool) -> Tensor:
        return padded.int()


class _PaddingNeverCounts(Averaging):
    def counts(self, inside: Tensor, padded: Tensor, include: bool) -> Tensor:
        return inside.int()


class _Inverted(Averaging):
    def counts(self, inside: Tensor, padded: Tensor, include: bool) -> Tensor:
        return super().counts(inside, padded, not include)


class _BeyondThePadding(Averaging):
    """Cells that ceil mode adds beyond the padding count as padding."""

    def counts(self, inside: Tensor, padded: Tensor, include: bool) -> Tensor:
        return torch.ones_like(inside).int() if include else inside.int()


class _CountsPlaces(Averaging):
    def divisor(self, counted: Tensor, override: int | None) -> Tensor:
        return super().divisor(counted, override) + (override is None)


class _OverrideIgnored(Averaging):
    def divisor(self, counted: Tensor, override: int | None) -> Tensor:
        return counted


class _OverrideWithoutSign(Averaging):
    def divisor(self, counted: Tensor, override: int | None) -> Tensor:
        return super().divisor(counted, override).abs()


class _LastRowMissing(Averaging):
    def kernel(self, axis: loops.Axis) -> int:
        return max(axis.kernel - 1, 1)


class _LastCellTwice(Averaging):
    def term(self, cell: Tensor, inside: Tensor, at: tuple[int, int]) -> Tensor:
        return super().term(cell, inside, at) * (2 if at == (1, 1) else 1)


class _PaddingRepeatsTheEdge(Averaging):
    def term(self, cell: Tensor, inside: Tensor, at: tuple[int, int]) -> Tensor:
        return cell


class _AbsoluteValues(Averaging):
    def term(self, cell: Tensor, inside: Tensor, at: tuple[int, int]) -> Tensor:
        return super().term(cell, inside, at).abs()


class _StrideOffByOne(Averaging):
    def starts(self, axis: loops.Axis) -> list[int]:
        return [start + (i > 0) for i, start in enumerate(axis.starts())]


class _PaddedAtTheEnd(Averaging):
    def starts(self, axis: loops.Axis) -> list[int]:
        return [start + axis.begin for start in axis.starts()]


class _CeilIgnored(Averaging):
    def axes(self, size: torch.Size, **arguments: Any) -> list[loops.Axis]:
        return super().axes(size, **arguments | {"ceil_mode": False})


class _CeilAlways(Averaging):
    def axes(self, size: torch.Size, **arguments: Any) -> list[loops.Axis]:
        return super().axes(size, **arguments | {"ceil_mode": True})


class _DilationIgnored(Averaging):
    def axes(self, size: torch.Size, **arguments: Any) -> list[loops.Axis]:
        return super().axes(size, **arguments | {"dilation": 1})


class _Transposed(Averaging):
    """Kernel rows and columns change places."""

    def axes(self, size: torch.Size, **arguments: Any) -> list[loops.Axis]:
        kernel = arguments["kernel_size"]
        turned = kernel[::-1] if isinstance(kernel, tuple) else kernel
        return super().axes(size, **arguments | {"kernel_size": turned})


class _SumsInHalf(Averaging):
    """Half precision is added up in half precision."""

    def wide(self, dtype: torch.dtype) -> torch.dtype:
        return dtype


class _RowMajor(Averaging):
    def lay_out(self, x: Tensor, result: Tensor) -> Tensor:
        return result.contiguous()


class _NoBackward(torch.autograd.Function):
    """A copy whose gradient is not scaled as it should be."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Any) -> Tensor:
        return tangent.clone()


class _GradientNotDivided(Averaging):
    def term(self, cell: Tensor, inside: Tensor, at: tuple[int, int]) -> Tensor:
        return _NoBackward.apply(super().term(cell, inside, at), 4.0)


class _GradientToTheFirstCell(Averaging):
    def term(self, cell: Tensor, inside: Tensor, at: tuple[int, int]) -> Tensor:
        return _NoBackward.apply(super().term(cell, inside, at), 1.0 if at == (0, 0) else 0.0)


VALUES, GRADIENTS = "values_equal_the_loops", "gradients_equal_the_loops"
MUTANTS = (
    Mutant("padding always counts", _PaddingAlwaysCounts(), VALUES),
    Mutant("padding never counts", _PaddingNeverCounts(), VALUES),
    Mutant("count_include_pad inverted", _Inverted(), VALUES),
    Mutant("cells beyond the padding count", _BeyondThePadding(), VALUES),
    Mutant("divisor one too large", _CountsPlaces(), VALUES),
    Mutant("divisor_override ignored", _OverrideIgnored(), VALUES),
    Mutant("divisor_override without its sign", _OverrideWithoutSign(), VALUES),
    Mutant("last row and column missing", _LastRowMissing(), VALUES),
    Mutant("one cell twice", _LastCellTwice(), VALUES),
    Mutant("padding repeats the edge", _PaddingRepeatsTheEdge(), VALUES),
    Mutant("absolute values", _AbsoluteValues(), VALUES),
    Mutant("stride off by one", _StrideOffByOne(), VALUES),
    Mutant("padding at the end alone", _PaddedAtTheEnd(), VALUES),
    Mutant("ceil mode ignored", _CeilIgnored(), VALUES),
    Mutant("ceil mode always", _CeilAlways(), VALUES),
    Mutant("dilation ignored", _DilationIgnored(), VALUES),
    Mutant("kernel transposed", _Transposed(), VALUES),
    Mutant("half precision added in half", _SumsInHalf(), VALUES),
    Mutant("row-major whatever goes in", _RowMajor(), "values_equal_the_peer"),
    Mutant("gradient not divided", _GradientNotDivided(), GRADIENTS),
    Mutant("gradient to the first cell", _GradientToTheFirstCell(), GRADIENTS),
)
