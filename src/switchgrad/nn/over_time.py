"""Pooling over time as layers: thin over `switchgrad.ops`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.lp_pool import checked_norm

__all__ = [
    "AvgOverTime",
    "ChunkMaxPool",
    "KMaxPool",
    "KRangeMaxPool",
    "LPOverTime",
    "MaxOverTime",
    "SumOverTime",
]


class MaxOverTime(nn.Module):
    """`switchgrad.ops.max_over_time` as a layer; ``lengths`` or ``mask`` go into each call.

    >>> import torch
    >>> MaxOverTime()(torch.tensor([[[1.0, 5.0, 9.0]]]), lengths=torch.tensor([2]))
    tensor([[5.]])
    """

    def forward(self, input: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return ops.max_over_time(input, lengths=lengths, mask=mask)


class AvgOverTime(nn.Module):
    """`switchgrad.ops.avg_over_time` as a layer; ``lengths`` or ``mask`` go into each call.

    >>> import torch
    >>> AvgOverTime()(torch.tensor([[[1.0, 5.0, 9.0]]]), lengths=torch.tensor([2]))
    tensor([[3.]])
    """

    def forward(self, input: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return ops.avg_over_time(input, lengths=lengths, mask=mask)


class SumOverTime(nn.Module):
    """`switchgrad.ops.sum_over_time` as a layer; ``lengths`` or ``mask`` go into each call.

    >>> import torch
    >>> SumOverTime()(torch.tensor([[[1.0, 5.0, 9.0]]]), mask=torch.tensor([[True, False, True]]))
    tensor([[10.]])
    """

    def forward(self, input: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return ops.sum_over_time(input, lengths=lengths, mask=mask)


class LPOverTime(nn.Module):
    """`switchgrad.ops.lp_over_time` as a layer; ``lengths`` or ``mask`` go into each call.

    >>> import torch
    >>> LPOverTime(2)(torch.tensor([[[3.0, -4.0, 12.0]]]), lengths=torch.tensor([2]))
    tensor([[5.]])
    """

    def __init__(self, norm_type: float) -> None:
        super().__init__()
        self.norm_type = checked_norm(norm_type)

    def forward(self, input: Tensor, *, lengths: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return ops.lp_over_time(input, self.norm_type, lengths=lengths, mask=mask)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type:g}"


class KMaxPool(nn.Module):
    """`switchgrad.ops.k_max_pool` as a layer.

    >>> import torch
    >>> KMaxPool(2)(torch.tensor([[4.0, 1.0, 7.0]]))
    tensor([[4., 7.]])
    """

    def __init__(self, k: int, return_indices: bool = False) -> None:
        super().__init__()
        self.k = k
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return ops.k_max_pool(input, self.k, return_indices=self.return_indices)

    def extra_repr(self) -> str:
        return f"k={self.k}"


class ChunkMaxPool(nn.Module):
    """`switchgrad.ops.chunk_max_pool` as a layer.

    >>> import torch
    >>> ChunkMaxPool(2)(torch.tensor([[1.0, 5.0, 2.0, 9.0]]))
    tensor([[5., 9.]])
    """

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.chunks = chunks

    def forward(self, input: Tensor) -> Tensor:
        return ops.chunk_max_pool(input, self.chunks)

    def extra_repr(self) -> str:
        return f"chunks={self.chunks}"


class KRangeMaxPool(nn.Module):
    """`switchgrad.ops.k_range_max_pool` as a layer.

    >>> import torch
    >>> KRangeMaxPool(2)(torch.tensor([[1.0, 5.0, 2.0, 9.0, 4.0]]))
    tensor([[5., 9., 4.]])
    """

    def __init__(self, k: int, stride: IntOrTuple | None = None) -> None:
        super().__init__()
        self.k = k
        self.stride = k if stride is None else stride

    def forward(self, input: Tensor) -> Tensor:
        return ops.k_range_max_pool(input, self.k, self.stride)

    def extra_repr(self) -> str:
        return f"k={self.k}, stride={self.stride}"
