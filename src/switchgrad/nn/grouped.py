"""Pooling over groups and losses, as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from switchgrad import ops

if TYPE_CHECKING:
    from switchgrad.ops.grouped.group_pool import Group, Mode, Over

__all__ = ["GroupPool", "LossMaxPool"]


class GroupPool(nn.Module):
    """`switchgrad.ops.group_pool` as a layer.

    >>> import torch
    >>> GroupPool("p4m", over="rotations")(torch.rand(1, 3, 8, 5, 5)).shape
    torch.Size([1, 3, 2, 5, 5])
    """

    def __init__(self, group: Group, over: Over = "group", mode: Mode = "max", dim: int = 2) -> None:
        super().__init__()
        self.group: Group = group
        self.over: Over = over
        self.mode: Mode = mode
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return ops.group_pool(input, self.group, self.over, self.mode, self.dim)

    def extra_repr(self) -> str:
        return f"{self.group}, over={self.over}, mode={self.mode}"


class LossMaxPool(nn.Module):
    """`switchgrad.ops.loss_max_pool` as a layer, behind a loss that is not reduced.

    >>> import torch
    >>> logits, classes = torch.rand(2, 5, 8, 8), torch.randint(5, (2, 8, 8))
    >>> losses = nn.CrossEntropyLoss(reduction="none")(logits, classes)
    >>> bool(LossMaxPool()(losses) >= losses.mean())
    True
    """

    def __init__(self, ratio: float = 0.3, p: float = 1.7, per_sample: bool = False) -> None:
        super().__init__()
        self.ratio = ratio
        self.p = p
        self.per_sample = per_sample

    def forward(self, losses: Tensor) -> Tensor:
        return ops.loss_max_pool(losses, self.ratio, self.p, self.per_sample)

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, p={self.p}, per_sample={self.per_sample}"
