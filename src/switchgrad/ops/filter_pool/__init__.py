"""One small filter for every channel, at every window: the linear map behind weighted and blurred pooling."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from switchgrad.ops.filter_pool import registration as registration
from switchgrad.ops.filter_pool.reference import REFLECT, REPLICATE, ZEROS
from switchgrad.ops.routing import is_plain

__all__ = ["REFLECT", "REPLICATE", "ZEROS", "Filter"]


@dataclass(frozen=True)
class Filter:
    """Sums of windows under ``weights`` (row-major), as a `linear.LinearMap`.

    Windows start ``before`` cells ahead of the input and follow each other by ``stride``; how many there are says
    ``places``. ``border`` says what lies beyond. With ``mean`` each sum is divided by the sum of the weights that fall
    inside the input (0 where none does).
    """

    weights: tuple[float, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    dilation: tuple[int, ...]
    places: tuple[int, ...]
    border: int = ZEROS
    mean: bool = False

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    def up(self, input: Tensor) -> Tensor:
        """The sums, by one registered operator."""
        weights, factors = self._numbers(input, tuple(input.shape[-self.dims :]))
        return _sums(self, input, weights, factors)

    def down(self, pooled: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
        """Each pooled number added to the cells of its window, times their weights."""
        weights, factors = self._numbers(pooled, size)
        return torch.ops.switchgrad.filter_pool_spread(
            pooled,
            list(size),
            weights,
            factors,
            list(self.kernel_size),
            list(self.stride),
            list(self.before),
            list(self.dilation),
            self.border,
            channels_last,
        )

    def _numbers(self, like: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        dtype = like.dtype if like.dtype.itemsize > 2 else torch.float32
        numbers = _numbers_at_hand if is_plain(like) else _numbers_of
        return numbers(self, size, dtype, like.device)


def _numbers_of(
    of: Filter, size: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """The weights, and what each place's sum is multiplied by."""
    weights = torch.tensor(of.weights, dtype=dtype, device=device)
    if not of.mean:
        return weights, None
    seen = _sums(of, torch.ones((1, *size), dtype=dtype, device=device), weights, None)[0]
    return weights, torch.where(seen == 0, 0, 1 / seen)


# A network asks for the same few again and again, and making them takes as long as pooling a small map.
_numbers_at_hand = functools.lru_cache(maxsize=64)(_numbers_of)


def _sums(of: Filter, input: Tensor, weights: Tensor, factors: Tensor | None) -> Tensor:
    return torch.ops.switchgrad.filter_pool(
        input,
        weights,
        factors,
        list(of.kernel_size),
        list(of.stride),
        list(of.before),
        list(of.dilation),
        list(of.places),
        of.border,
    )


def products(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The row-major weights that are products of one number along each axis.

    >>> products([[1.0, 2.0], [1.0, 3.0]])
    (1.0, 3.0, 2.0, 6.0)
    """
    made: list[tuple[float, ...]] = [()]
    for row in rows:
        made = [(*head, number) for head in made for number in row]
    return tuple(math.prod(numbers) for numbers in made)
