"""Adaptive average pooling as a linear map: what it means, its registration, and the two calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import LIBRARY, operator
from switchgrad.ops.avg_pool.reference import laid_out, wide
from switchgrad.ops.avg_pool.registration import empty_spread
from switchgrad.ops.exporting import refuse
from switchgrad.ops.layout import empty_in_layout_of, in_layout_of

_UP, _DOWN = operator("adaptive_avg_pool"), operator("adaptive_avg_pool_spread")


@dataclass(frozen=True, slots=True)
class AdaptiveAveragePooling:
    """Adaptive average pooling as a linear map."""

    output_size: tuple[int, ...]

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.output_size)

    def up(self, input: Tensor) -> Tensor:
        """The averages."""
        return _UP(input, self.output_size)

    def down(self, pooled: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
        """Each pooled number shared out to the cells of its window."""
        return _DOWN(pooled, size, channels_last)


def bins(size: int, places: int) -> list[tuple[int, int]]:
    """Begin and end of each of ``places`` windows over ``size`` cells: floor(p H / P) to ceil((p + 1) H / P).

    >>> bins(7, 3)
    [(0, 3), (2, 5), (4, 7)]
    """
    return [(p * size // places, -(-(p + 1) * size // places)) for p in range(places)]


def fixed_bins(input: Tensor, places: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Begin and end of every adaptive window along each axis; raises `ExportError` where the input's size is open."""
    size = input.shape[-len(places) :]
    if any(isinstance(cells, torch.SymInt) for cells in (*size, *places)):
        refuse(
            f"adaptive pooling to {tuple(places)} of an input whose size is open",
            "its windows depend on the size, and ONNX has no operator for them",
            "keep the spatial axes out of dynamic_shapes, or use global pooling",
        )
    return [bins(h, p) for h, p in zip(size, places, strict=True)]


def windows(size: Sequence[int], output_size: Sequence[int]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Each place in row-major order with the slices of its window, both to index the spatial axes with."""
    along = [list(enumerate(bins(h, p))) for h, p in zip(size, output_size, strict=True)]
    for place in itertools.product(*along):
        yield (..., *(p for p, _ in place)), (..., *(slice(begin, end) for _, (begin, end) in place))


def _adaptive_avg_pool(input: Tensor, output_size: Sequence[int]) -> Tensor:
    dims = len(output_size)
    total = input.new_empty((*input.shape[:-dims], *output_size), dtype=wide(input.dtype))
    for place, cells in windows(input.shape[-dims:], output_size):
        total[place] = input[cells].to(total.dtype).flatten(-dims).mean(-1)
    return in_layout_of(input, total.to(input.dtype))


def _adaptive_avg_pool_spread(pooled: Tensor, input_size: Sequence[int], channels_last: bool) -> Tensor:
    dims = len(input_size)
    total = pooled.new_zeros((*pooled.shape[:-dims], *input_size), dtype=wide(pooled.dtype))
    for place, cells in windows(input_size, pooled.shape[-dims:]):
        window = total[cells]
        share = pooled[place].to(total.dtype) / window.shape[-dims:].numel()
        window += share.reshape(*share.shape, *[1] * dims)
    return laid_out(total.to(pooled.dtype), channels_last)


def _fake_adaptive_avg_pool(input: Tensor, output_size: Sequence[int]) -> Tensor:
    return empty_in_layout_of(input, (*input.shape[: -len(output_size)], *output_size), input.dtype)


LIBRARY.impl("adaptive_avg_pool", _adaptive_avg_pool, "CompositeExplicitAutograd")
LIBRARY.impl("adaptive_avg_pool_spread", _adaptive_avg_pool_spread, "CompositeExplicitAutograd")
torch.library.register_fake("switchgrad::adaptive_avg_pool", _fake_adaptive_avg_pool, lib=LIBRARY)
torch.library.register_fake("switchgrad::adaptive_avg_pool_spread", empty_spread, lib=LIBRARY)
