"""Pooling whose proportions and filters are learned, as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import ModelError
from switchgrad.geometry import IntOrTuple, Padding, is_integer
from switchgrad.nn.windowed import Windowed
from switchgrad.ops.checks import count, described, known_number

__all__ = [
    "GatedPool1d",
    "GatedPool2d",
    "GatedPool3d",
    "MixedPool1d",
    "MixedPool2d",
    "MixedPool3d",
    "TreePool1d",
    "TreePool2d",
    "TreePool3d",
]


class _MixedPool(Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        *,
        channels: int | None = None,
        places: tuple[int, ...] | None = None,
        mixing: float = 0.5,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        shape = _sharing(self.dims, channels, places)
        self.mixing = nn.Parameter(torch.full(shape, float(known_number(mixing, "mixing"))))


class MixedPool1d(_MixedPool):
    """`switchgrad.ops.mixed_pool1d` as a layer: the proportion ``mixing`` is learned, from one half.

    One proportion for the layer; one a channel with ``channels``, one a region with ``places`` (the size of the pooled
    map), one of each with both. It is not kept in [0, 1]: clamp it after each step where that matters.

    >>> MixedPool1d(2, channels=2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.mixed_pool1d(input, self.mixing, *self.geometry())


class MixedPool2d(_MixedPool):
    """`switchgrad.ops.mixed_pool2d` as a layer: the proportion ``mixing`` is learned, from one half.

    One proportion for the layer; one a channel with ``channels``, one a region with ``places`` (the size of the pooled
    map), one of each with both. It is not kept in [0, 1]: clamp it after each step where that matters.

    >>> MixedPool2d(2, channels=2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.mixed_pool2d(input, self.mixing, *self.geometry())


class MixedPool3d(_MixedPool):
    """`switchgrad.ops.mixed_pool3d` as a layer: the proportion ``mixing`` is learned, from one half.

    One proportion for the layer; one a channel with ``channels``, one a region with ``places`` (the size of the pooled
    map), one of each with both. It is not kept in [0, 1]: clamp it after each step where that matters.

    >>> MixedPool3d(2, channels=2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.mixed_pool3d(input, self.mixing, *self.geometry())


class _GatedPool(Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        *,
        channels: int | None = None,
        places: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.gate = nn.Parameter(torch.zeros(*_sharing(self.dims, channels, places), *self.cells().kernel_size))


class GatedPool1d(_GatedPool):
    """`switchgrad.ops.gated_pool1d` as a layer: the ``gate``'s weights are learned, from 0 (halfway).

    One gate for the layer; one a channel with ``channels``, one a region with ``places`` (the size of the pooled map),
    one of each with both.

    >>> GatedPool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.gated_pool1d(input, self.gate, *self.geometry())


class GatedPool2d(_GatedPool):
    """`switchgrad.ops.gated_pool2d` as a layer: the ``gate``'s weights are learned, from 0 (halfway).

    One gate for the layer; one a channel with ``channels``, one a region with ``places`` (the size of the pooled map),
    one of each with both.

    >>> GatedPool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.gated_pool2d(input, self.gate, *self.geometry())


class GatedPool3d(_GatedPool):
    """`switchgrad.ops.gated_pool3d` as a layer: the ``gate``'s weights are learned, from 0 (halfway).

    One gate for the layer; one a channel with ``channels``, one a region with ``places`` (the size of the pooled map),
    one of each with both.

    >>> GatedPool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.gated_pool3d(input, self.gate, *self.geometry())


class _TreePool(Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        *,
        levels: int = 2,
        channels: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        count(levels, "levels", error=ModelError)
        if channels is not None:
            count(channels, "channels", error=ModelError)
        size = self.cells().kernel_size
        leaves = 2 ** (levels - 1)
        each = size if channels is None else (channels, *size)
        self.leaves = nn.Parameter(torch.empty(leaves, *each))
        self.gates = nn.Parameter(torch.empty(leaves - 1, *each))
        self.levels = levels
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make every leaf an average, a little off so that they can part, and every gate open halfway."""
        cells = self.cells().cells
        nn.init.normal_(self.leaves, 1 / cells, 0.1 / cells)
        nn.init.zeros_(self.gates)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, levels={self.levels}"


class TreePool1d(_TreePool):
    """`switchgrad.ops.tree_pool1d` as a layer: filters and gates are learned; one tree, or one a channel.

    >>> TreePool1d(2, levels=3)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.tree_pool1d(input, self.leaves, self.gates, *self.geometry())


class TreePool2d(_TreePool):
    """`switchgrad.ops.tree_pool2d` as a layer: filters and gates are learned; one tree, or one a channel.

    >>> TreePool2d(2, levels=3)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.tree_pool2d(input, self.leaves, self.gates, *self.geometry())


class TreePool3d(_TreePool):
    """`switchgrad.ops.tree_pool3d` as a layer: filters and gates are learned; one tree, or one a channel.

    >>> TreePool3d(2, levels=3)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.tree_pool3d(input, self.leaves, self.gates, *self.geometry())


def _are_sizes(places: object, dims: int) -> bool:
    return isinstance(places, Sequence) and len(places) == dims and all(map(is_integer, places))


def _sharing(dims: int, channels: int | None, places: tuple[int, ...] | None) -> tuple[int, ...]:
    """Leading axes of a parameter that is one for all, one a channel, one a region, or one of each."""
    if channels is not None:
        count(channels, "channels", error=ModelError)
    if places is not None and not _are_sizes(places, dims):
        given = f"{places}" if isinstance(cast("object", places), tuple) else described(places)
        raise ModelError(f"places is {given}; give the {dims} sizes of the pooled map")
    if places is None:
        return () if channels is None else (channels, *[1] * dims)
    return (1 if channels is None else channels, *places)
