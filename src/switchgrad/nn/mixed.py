"""Learned and mixed pooling, as layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import ModelError
from switchgrad.geometry import IntOrTuple, Padding
from switchgrad.nn.windowed import Windowed

__all__ = [
    "AutoPool",
    "ClusterPool",
    "ExpectationPool",
    "GatedPool1d",
    "GatedPool2d",
    "GatedPool3d",
    "GeneralPool1d",
    "GeneralPool2d",
    "GeneralPool3d",
    "LIPPool1d",
    "LIPPool2d",
    "LIPPool3d",
    "MixedPool1d",
    "MixedPool2d",
    "MixedPool3d",
    "SoftPool1d",
    "SoftPool2d",
    "SoftPool3d",
    "TreePool1d",
    "TreePool2d",
    "TreePool3d",
]


class SoftPool1d(Windowed):
    """`switchgrad.ops.soft_pool1d` as a layer.

    >>> SoftPool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.soft_pool1d(input, *self.geometry())


class SoftPool2d(Windowed):
    """`switchgrad.ops.soft_pool2d` as a layer.

    >>> SoftPool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.soft_pool2d(input, *self.geometry())


class SoftPool3d(Windowed):
    """`switchgrad.ops.soft_pool3d` as a layer.

    >>> SoftPool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.soft_pool3d(input, *self.geometry())


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
        self.mixing = nn.Parameter(torch.full(shape, mixing))


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
        if levels < 1:
            raise ModelError(f"levels is {levels}; a tree has at least 1")
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


class _LIPPool(Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        *,
        logits: nn.Module,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.logits = logits


class LIPPool1d(_LIPPool):
    """`switchgrad.ops.lip_pool1d` as a layer: the module ``logits`` says how important each cell is.

    It takes the input and returns a tensor that broadcasts to it. The paper's simplest is a convolution, instance
    normalisation, and a sigmoid times 12.

    >>> LIPPool1d(2, logits=nn.Conv1d(2, 1, 3, padding=1))(torch.rand(1, 2, 6)).shape
    torch.Size([1, 2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.lip_pool1d(input, self.logits(input), *self.geometry())


class LIPPool2d(_LIPPool):
    """`switchgrad.ops.lip_pool2d` as a layer: the module ``logits`` says how important each cell is.

    It takes the input and returns a tensor that broadcasts to it. The paper's simplest is a convolution, instance
    normalisation, and a sigmoid times 12.

    >>> LIPPool2d(2, logits=nn.Conv2d(2, 1, 3, padding=1))(torch.rand(1, 2, 6, 6)).shape
    torch.Size([1, 2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.lip_pool2d(input, self.logits(input), *self.geometry())


class LIPPool3d(_LIPPool):
    """`switchgrad.ops.lip_pool3d` as a layer: the module ``logits`` says how important each cell is.

    It takes the input and returns a tensor that broadcasts to it. The paper's simplest is a convolution, instance
    normalisation, and a sigmoid times 12.

    >>> LIPPool3d(2, logits=nn.Conv3d(2, 1, 3, padding=1))(torch.rand(1, 2, 6, 6, 6)).shape
    torch.Size([1, 2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.lip_pool3d(input, self.logits(input), *self.geometry())


class _GeneralPool(Windowed):
    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        fill: float = 0.0,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.function = function
        self.fill = fill


class GeneralPool1d(_GeneralPool):
    """`switchgrad.ops.general_pool1d` as a layer; where ``function`` is a module its parameters are learned.

    >>> GeneralPool1d(nn.Sequential(nn.Linear(2, 1), nn.Flatten(-2)), 2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.general_pool1d(input, self.function, *self.geometry(), self.fill)


class GeneralPool2d(_GeneralPool):
    """`switchgrad.ops.general_pool2d` as a layer; where ``function`` is a module its parameters are learned.

    >>> GeneralPool2d(nn.Sequential(nn.Linear(4, 1), nn.Flatten(-2)), 2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.general_pool2d(input, self.function, *self.geometry(), self.fill)


class GeneralPool3d(_GeneralPool):
    """`switchgrad.ops.general_pool3d` as a layer; where ``function`` is a module its parameters are learned.

    >>> GeneralPool3d(nn.Sequential(nn.Linear(8, 1), nn.Flatten(-2)), 2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.general_pool3d(input, self.function, *self.geometry(), self.fill)


class AutoPool(nn.Module):
    """`switchgrad.ops.auto_pool` as a layer: a softness for each channel is learned, from ``alpha``.

    >>> AutoPool(10)(torch.rand(4, 10, 50)).shape
    torch.Size([4, 10])
    """

    def __init__(self, channels: int, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((channels,), alpha))

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        return ops.auto_pool(input, self.alpha, mask)

    def extra_repr(self) -> str:
        return f"{len(self.alpha)}"


class ExpectationPool(nn.Module):
    """`switchgrad.ops.expectation_pool` as a layer: ``m`` is given, or learned from there.

    >>> ExpectationPool(2.0, learned=True)(torch.rand(4, 10, 50)).shape
    torch.Size([4, 10])
    """

    m: Tensor

    def __init__(self, m: float = 1.0, learned: bool = False, above_mean: bool = False) -> None:
        super().__init__()
        if learned:
            self.m = nn.Parameter(torch.tensor(m))
        else:
            self.register_buffer("m", torch.tensor(m))
        self.above_mean = above_mean

    def forward(self, input: Tensor) -> Tensor:
        return ops.expectation_pool(input, self.m, self.above_mean)

    def extra_repr(self) -> str:
        return f"m={self.m.item():g}, above_mean={self.above_mean}"


class ClusterPool(nn.Module):
    """`switchgrad.ops.cluster_pool` as a layer: auto-pooling's soft clusters of features, learned from a sequence.

    Train it on features of frames in their order with ``loss``.

    >>> pool = ClusterPool(features=16, clusters=4)
    >>> frames = torch.rand(8, 20, 16)
    >>> pool(frames).shape, pool.loss(frames).shape
    (torch.Size([8, 20, 4]), torch.Size([]))
    """

    def __init__(self, features: int, clusters: int) -> None:
        super().__init__()
        if features < 1 or clusters < 1:
            raise ModelError(f"features is {features} and clusters {clusters}; each must be at least 1")
        self.logits = nn.Parameter(torch.empty(clusters, features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Give every feature nearly equal shares."""
        nn.init.normal_(self.logits, std=0.1)

    def forward(self, input: Tensor) -> Tensor:
        return ops.cluster_pool(input, self.logits)

    def loss(self, frames: Tensor, coherence: float = 1.0) -> Tensor:
        """`switchgrad.ops.auto_pooling_loss` of features of shape (..., T, F)."""
        return ops.auto_pooling_loss(frames, self.logits, coherence)

    def extra_repr(self) -> str:
        return f"features={self.logits.shape[1]}, clusters={self.logits.shape[0]}"


def _sharing(dims: int, channels: int | None, places: tuple[int, ...] | None) -> tuple[int, ...]:
    """Leading axes of a parameter that is one for all, one a channel, one a region, or one of each."""
    if places is not None and len(places) != dims:
        raise ModelError(f"places is {places}; give the {dims} sizes of the pooled map")
    if places is None:
        return () if channels is None else (channels, *[1] * dims)
    return (1 if channels is None else channels, *places)
