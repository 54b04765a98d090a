"""Max pooling over windows that start where a list says: what random windows have in common.

A window starts at ``starts[axis][..., place]`` along each axis. The entries are shared by all maps (one axis), or each
map has its own (the leading axes of the input, then the places). Cells beyond the end of the input take no part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.layout import code_dtype, in_layout_of
from switchgrad.ops.routing import function, is_watched
from switchgrad.ops.unpooling import unpool_by_indices
from switchgrad.ops.windows import wide


@dataclass(frozen=True, eq=False)
class PlacedSwitches:
    """Where the winners lie, of windows that start at ``starts``: `switchgrad.Switches` for random windows.

    ``codes`` holds the winner's row-major offset in its window, one byte each (more for windows of 255 cells).
    ``starts`` has an int64 tensor an axis, of the places, or of the leading axes and the places.

    >>> import switchgrad
    >>> x = torch.tensor([[[3.0, 9.0, 0.0], [1.0, 2.0, 7.0], [4.0, 8.0, 5.0]]])
    >>> y, switches = switchgrad.ops.fractional_max_pool2d(
    ...     x, 2, output_size=2, _random_samples=torch.zeros(1, 1, 2), return_switches=True
    ... )
    >>> y.tolist(), switches.codes.tolist(), switches.to_indices().tolist()
    ([[[9.0, 9.0], [8.0, 8.0]]], [[[1, 0], [3, 2]]], [[[1, 1], [7, 7]]])
    >>> switches.unpool(y).tolist()
    [[[0.0, 9.0, 0.0], [0.0, 0.0, 0.0], [0.0, 8.0, 0.0]]]
    """

    codes: Tensor
    starts: tuple[Tensor, ...]
    kernel_size: tuple[int, ...]
    input_size: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the codes and the starts take."""
        return sum(t.numel() * t.element_size() for t in (self.codes, *self.starts))

    def to_indices(self) -> Tensor:
        """The winners as PyTorch names them: int64, flat and row-major in each channel of the input."""
        return indices(self.codes, self.starts, self.kernel_size, self.input_size)

    def mask(self) -> Tensor:
        """The input's shape as booleans: True where a cell won at least one window."""
        won = torch.ones_like(self.codes, dtype=torch.int32)
        return _put(won, self.to_indices(), self.input_size) > 0

    def unpool(self, values: Tensor) -> Tensor:
        """``values`` put back where the winners lay, 0 elsewhere; of several in one cell the last stays."""
        if values.shape != self.codes.shape:
            raise GeometryError(
                f"values have shape {tuple(values.shape)} and the switches {tuple(self.codes.shape)}; give one value "
                "for each switch"
            )
        return unpool_by_indices(values, self.to_indices(), self.input_size)


Winners: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


def max_at(
    input: Tensor, starts: Sequence[Tensor], kernel_size: Sequence[int], winners: Winners | None = None
) -> tuple[Tensor, PlacedSwitches]:
    """The largest value of each window and where it stood: first of ties, NaN wins, of several NaN the last.

    The starts along an axis must differ from one another. ``winners`` may compute the values and PyTorch's indices in
    another way, in eager mode. Backward: each pooled gradient goes to its winner, summed over the windows; only the
    codes (and the starts) are kept. Deterministic.
    """
    kernel = tuple(kernel_size)
    size = tuple(input.shape[-len(kernel) :])
    if is_watched(input):
        # As one tensor: the compiler's tracer loses count of functions that take any number of them.
        places = tuple(start.shape[-1] for start in starts)
        apply = function(_MaxAt.apply, _transformed)
        values, codes = apply(input, torch.cat(list(starts), -1), places, kernel, winners)
    else:
        values, codes = _found(input, starts, kernel, winners)
    return values, PlacedSwitches(codes, tuple(starts), kernel, size)


def indices(codes: Tensor, starts: Sequence[Tensor], kernel_size: Sequence[int], size: Sequence[int]) -> Tensor:
    """Flat indices of the winners."""
    rest = codes.to(torch.int32)
    away = torch.zeros((), dtype=torch.int32, device=codes.device)
    for axis in reversed(range(len(size))):
        down = rest.div(kernel_size[axis], rounding_mode="floor")
        away = away + (rest - down * kernel_size[axis]) * math.prod(size[axis + 1 :])
        rest = down
    return _first_cells(starts, size) + away


def _codes(index: Tensor, starts: Sequence[Tensor], kernel_size: Sequence[int], size: Sequence[int]) -> Tensor:
    """The inverse of `indices`."""
    away = (index - _first_cells(starts, size)).to(torch.int32)
    codes = torch.zeros((), dtype=torch.int32, device=index.device)
    for axis in range(len(size)):
        step = math.prod(size[axis + 1 :])
        cell = away.div(step, rounding_mode="floor")
        away = away - cell * step
        codes = codes * kernel_size[axis] + cell
    return codes.to(code_dtype(math.prod(kernel_size)))


def _first_cells(starts: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The flat index of each window's first cell."""
    first = torch.zeros((), dtype=torch.int64, device=starts[0].device)
    for axis, start in enumerate(starts):
        first = first + _along(start * math.prod(size[axis + 1 :]), axis, len(size))
    return first


def _found(
    input: Tensor, starts: Sequence[Tensor], kernel_size: tuple[int, ...], winners: Winners | None
) -> tuple[Tensor, Tensor]:
    """Values and codes."""
    if winners is None:
        return _winners(input, starts, kernel_size)
    values, index = winners(input)
    codes = _codes(index, starts, kernel_size, input.shape[-len(kernel_size) :])
    return in_layout_of(input, values), in_layout_of(input, codes)


def _winners(input: Tensor, starts: Sequence[Tensor], kernel_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    dtype = code_dtype(math.prod(kernel_size))
    best = codes = input
    for offset, x, inside in _cells(input, starts, kernel_size):
        if offset == 0:
            best, codes = x, torch.zeros(x.shape, dtype=dtype, device=x.device)
            continue
        wins = (x > best) | x.isnan()
        wins = wins if inside is None else wins & inside
        best, codes = torch.where(wins, x, best), torch.where(wins, offset, codes)
    return in_layout_of(input, best), in_layout_of(input, codes.to(dtype))


def _cells(
    input: Tensor, starts: Sequence[Tensor], kernel_size: Sequence[int]
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """For each offset in the window: the input there, and which of those cells are inside (None: all)."""
    dims = len(kernel_size)
    size = input.shape[-dims:]
    shared = starts[0].dim() == 1
    plane = input.flatten(-dims)
    for offset, cell in enumerate(itertools.product(*map(range, kernel_size))):
        at = [start + c for start, c in zip(starts, cell, strict=True)]
        if shared:
            x, inside = input, torch.ones((), dtype=torch.bool, device=input.device)
            for axis, (where, h) in enumerate(zip(at, size, strict=True)):
                x = x.index_select(axis - dims, where.clamp_max(h - 1))
                inside = inside & _along(where < h, axis, dims)
            yield offset, x, inside
        else:
            flat = torch.zeros((), dtype=torch.int64, device=input.device)
            for axis, where in enumerate(at):
                flat = flat + _along(where, axis, dims) * math.prod(size[axis + 1 :])
            yield offset, plane.gather(-1, flat.flatten(-dims)).reshape(flat.shape), None


def _along(places: Tensor, axis: int, dims: int) -> Tensor:
    """A vector of places (or one a map) as an array that varies along one spatial axis."""
    return places.reshape(*places.shape[:-1], *[1] * axis, places.shape[-1], *[1] * (dims - 1 - axis))


def _put(values: Tensor, index: Tensor, size: Sequence[int]) -> Tensor:
    """Each value added at its index; the CPU adds in row-major order of the values."""
    dims = len(size)
    total = values.new_zeros((*values.shape[:-dims], math.prod(size)))
    return total.scatter_add(-1, index.flatten(-dims), values.flatten(-dims)).unflatten(-1, tuple(size))


def _put_in_order(
    values: Tensor, codes: Tensor, starts: Sequence[Tensor], kernel_size: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Each value added to the cell of its winner, deterministic on every device."""
    index = indices(codes, starts, kernel_size, size)
    if values.device.type == "cpu":
        return _put(values, index, size)
    # Other devices add in any order, but at one offset no two windows meet in a cell.
    total = _put(torch.where(codes == 0, values, 0), index, size)
    for offset in range(1, math.prod(kernel_size)):
        total = total + _put(torch.where(codes == offset, values, 0), index, size)
    return total


class _MaxAt(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any,
        input: Tensor,
        starts: Tensor,
        places: tuple[int, ...],
        kernel_size: tuple[int, ...],
        winners: Winners | None,
    ) -> tuple[Tensor, Tensor]:
        values, codes = _found(input, starts.split(places, -1), kernel_size, winners)
        ctx.places, ctx.kernel_size, ctx.size = places, kernel_size, tuple(input.shape[-len(kernel_size) :])
        ctx.mark_non_differentiable(codes)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(codes, starts)
        return values, codes

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, None, None, None, None]:  # pyright: ignore
        if grad is None:
            return None, None, None, None, None
        codes, starts = ctx.saved_tensors
        total = _put_in_order(wide(grad), codes, starts.split(ctx.places, -1), ctx.kernel_size, ctx.size)
        return in_layout_of(codes, total.to(grad.dtype)), None, None, None, None


def _transformed(
    input: Tensor, starts: Tensor, places: tuple[int, ...], kernel_size: tuple[int, ...], *_others: object
) -> tuple[Tensor, Tensor]:
    """The same from operators that functorch and forward mode know."""
    each = starts.split(places, -1)
    _, codes = _winners(input.detach(), each, kernel_size)
    dims = len(kernel_size)
    index = indices(codes, each, kernel_size, input.shape[-dims:])
    taken = input.flatten(-dims).gather(-1, index.flatten(-dims)).reshape(codes.shape)
    return in_layout_of(codes, taken), codes
