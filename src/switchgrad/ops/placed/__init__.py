"""Max pooling over windows that start where a list says: what random windows have in common.

A window starts at ``starts[axis][..., place]`` along each axis. The entries are shared by all maps (one axis), or each
map has its own (the leading axes of the input, then the places). Cells beyond the end of the input take no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.kernels.schema import operator
from switchgrad.ops.layout import following, in_layout_of
from switchgrad.ops.placed import reference
from switchgrad.ops.placed import registration as registration  # what the operators mean on every device
from switchgrad.ops.routing import Taped, is_transformed, is_watched, recorder
from switchgrad.ops.unpooling import unpool_by_indices
from switchgrad.ops.windows import wide

_placed_max_pool, _placed_max_pool_route = operator("placed_max_pool"), operator("placed_max_pool_route")


@dataclass(frozen=True, eq=False)
class PlacedSwitches:
    """Where the winners lie, of windows that start at ``starts``: `switchgrad.Switches` for windows at any places.

    ``codes`` holds the winner's row-major offset in its window, one byte each (more for windows of 255 cells).
    ``starts`` has an int64 tensor an axis, of the places, or of the leading axes and the places; ``ends`` as well,
    where windows differ in size and ``kernel_size`` is the widest.

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
    ends: tuple[Tensor, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the codes and the starts take."""
        return sum(t.numel() * t.element_size() for t in (self.codes, *self.starts, *(self.ends or ())))

    def to_indices(self) -> Tensor:
        """The winners as PyTorch names them: int64, flat and row-major in each channel of the input."""
        return reference.indices(self.codes, torch.cat(self.starts, -1), self.kernel_size, self.input_size)

    def mask(self) -> Tensor:
        """The input's shape as booleans: True where a cell won at least one window."""
        won = torch.ones_like(self.codes, dtype=torch.int32)
        starts, ends = torch.cat(self.starts, -1), None if self.ends is None else torch.cat(self.ends, -1)
        return _placed_max_pool_route(won, self.codes, starts, ends, self.input_size, self.kernel_size) > 0

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

    The starts along an axis must differ from one another. On devices without a kernel ``winners`` may compute the
    values and PyTorch's indices in another way. Backward: each pooled gradient goes to its winner, summed over the
    windows; only the codes (and the starts) are kept. Deterministic.
    """
    kernel = tuple(kernel_size)
    # As one tensor: the compiler's tracer loses count of functions that take any number of them.
    places = Places(tuple(start.shape[-1] for start in starts), kernel)
    values, codes = pool(input, torch.cat(list(starts), -1), None, places, winners)
    return values, PlacedSwitches(codes, tuple(starts), kernel, tuple(input.shape[-len(kernel) :]))


@dataclass(frozen=True, slots=True)
class Places:
    """How many windows there are along each axis, and the cells of the widest."""

    counts: tuple[int, ...]
    kernel_size: tuple[int, ...]


def pool(
    input: Tensor, starts: Tensor, ends: Tensor | None, places: Places, winners: Winners | None = None
) -> tuple[Tensor, Tensor]:
    """Values and codes of windows from ``starts`` up to ``ends``, as `reference.placed_max_pool` reads them."""
    record = recorder(input, _MaxAt, _TransformedMaxAt)
    if record is not None:
        return record(input, starts, ends, places, winners)
    return _found(input, starts, ends, places, winners)


def _found(
    input: Tensor, starts: Tensor, ends: Tensor | None, places: Places, winners: Winners | None
) -> tuple[Tensor, Tensor]:
    if winners is None or input.device.type == "cpu":
        return _placed_max_pool(input, starts, ends, places.counts, places.kernel_size)
    values, index = winners(input)
    size = input.shape[-len(places.counts) :]
    codes = reference.codes_of(index, starts, places.counts, places.kernel_size, size)
    return in_layout_of(input, values), in_layout_of(input, codes)


class _MaxAt(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, starts: Tensor, ends: Tensor | None, places: Places, winners: Winners | None
    ) -> tuple[Tensor, Tensor]:
        values, codes = _found(input, starts, ends, places, winners)
        ctx.places, ctx.size = places, tuple(input.shape[-len(places.counts) :])
        ctx.mark_non_differentiable(codes)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(codes, starts, *([] if ends is None else [ends]))
        return values, codes

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, None, None, None, None]:  # pyright: ignore
        if grad is None:
            return None, None, None, None, None
        codes, starts, *ends = ctx.saved_tensors
        return _route(grad, codes, starts, ends[0] if ends else None, ctx.size, ctx.places), None, None, None, None


def _route(
    pooled: Tensor, codes: Tensor, starts: Tensor, ends: Tensor | None, size: tuple[int, ...], places: Places
) -> Tensor:
    if is_transformed():  # by operators that functorch and forward mode know
        total = reference.put_in_order(wide(pooled), codes, starts, places.kernel_size, size)
        return in_layout_of(codes, total.to(pooled.dtype))
    if is_watched(pooled):
        return _Route.apply(pooled, codes, starts, ends, size, places)
    return _placed_max_pool_route(pooled, codes, starts, ends, size, places.kernel_size)


class _Route(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any,
        pooled: Tensor,
        codes: Tensor,
        starts: Tensor,
        ends: Tensor | None,
        size: tuple[int, ...],
        places: Places,
    ) -> Tensor:
        ctx.size, ctx.places = size, places
        ctx.save_for_backward(codes, starts)
        return _placed_max_pool_route(pooled, codes, starts, ends, size, places.kernel_size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:  # pyright: ignore
        codes, starts = ctx.saved_tensors
        return _taken(grad, codes, starts, ctx.size, ctx.places), None, None, None, None, None


def _taken(input: Tensor, codes: Tensor, starts: Tensor, size: tuple[int, ...], places: Places) -> Tensor:
    """What ``input`` holds where the winners stood."""
    dims = len(size)
    index = reference.indices(codes, starts, places.kernel_size, size)
    lead = input.shape[:-dims]  # not flatten: gradients in batches do not know it
    planes = input.reshape(*lead, math.prod(size))
    taken = planes.gather(-1, index.reshape(*lead, math.prod(places.counts))).reshape(codes.shape)
    return following(codes, taken, dims)


class _TransformedMaxAt:
    """The same from operators that functorch and forward mode know."""

    @staticmethod
    def apply(
        input: Tensor, starts: Tensor, ends: Tensor | None, places: Places, *_winners: object
    ) -> tuple[Tensor, Tensor]:
        codes = reference.placed_max_pool(input.detach(), starts, ends, places.counts, places.kernel_size)[1]
        return _taken(input, codes, starts, tuple(input.shape[-len(places.counts) :]), places), codes
