"""Pooling of sequences and of features, as layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import ModelError
from switchgrad.ops.checks import count, known_number

__all__ = [
    "AutoPool",
    "ClusterPool",
    "ExpectationPool",
]


class AutoPool(nn.Module):
    """`switchgrad.ops.auto_pool` as a layer: a softness for each channel is learned, from ``alpha``.

    >>> AutoPool(10)(torch.rand(4, 10, 50)).shape
    torch.Size([4, 10])
    """

    def __init__(self, channels: int, alpha: float = 1.0) -> None:
        super().__init__()
        each = (count(channels, "channels", error=ModelError),)
        self.alpha = nn.Parameter(torch.full(each, float(known_number(alpha, "alpha"))))

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
        sharpness = torch.tensor(float(known_number(m, "m")))
        if learned:
            self.m = nn.Parameter(sharpness)
        else:
            self.register_buffer("m", sharpness)
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
        count(features, "features", error=ModelError)
        count(clusters, "clusters", error=ModelError)
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
