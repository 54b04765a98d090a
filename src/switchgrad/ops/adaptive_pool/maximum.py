"""Adaptive max pooling where windows differ in size: PyTorch's kernel finds the winners, a gather takes their numbers.

PyTorch's rules for ties and NaN are ours; its derivatives are not used, because a gather is differentiable at every
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.ops import linear
from switchgrad.ops.layout import following

_TORCH: dict[int, Any] = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}


def pool_bins(input: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The maxima of adaptive windows and PyTorch's flat indices of where they stood."""
    dims = len(places)
    indices = _TORCH[dims](input.detach(), places, return_indices=True)[1]
    planes = linear.apply(input, _Planes(dims)) if linear.lies_channels_last(input, dims) else input
    values = planes.flatten(-dims).gather(-1, indices.flatten(-dims)).reshape(indices.shape)
    return following(input, values, dims), following(input, indices, dims)


@dataclass(frozen=True, slots=True)
class _Planes:
    """The input as it is; what comes back gets its layout."""

    dims: int

    def up(self, input: Tensor) -> Tensor:
        """A row-major copy."""
        return input.clone(memory_format=torch.contiguous_format)

    def down(self, pooled: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:  # noqa: ARG002
        """The same numbers in the layout of the input."""
        return pooled.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else pooled.contiguous()
