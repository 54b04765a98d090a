"""Weighted averages and blurred subsampling as layers: one small filter for every channel."""

from __future__ import annotations

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding
from switchgrad.ops.blur_pool import Border

__all__ = [
    "BlurPool1d",
    "BlurPool2d",
    "BlurPool3d",
    "WeightedAvgPool1d",
    "WeightedAvgPool2d",
    "WeightedAvgPool3d",
]


class _WeightedAvgPool(nn.Module):
    def __init__(
        self, kernel_size: IntOrTuple, stride: IntOrTuple | None = None, padding: Padding = 0, *, sigma: float = 1.0
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.sigma = sigma

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, sigma={self.sigma}"


class WeightedAvgPool1d(_WeightedAvgPool):
    """`switchgrad.ops.weighted_avg_pool1d` as a layer, by the distance from the centre.

    >>> import torch
    >>> WeightedAvgPool1d(3, stride=2, padding=1, sigma=0.8)(torch.rand(1, 2, 9)).shape
    torch.Size([1, 2, 5])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.weighted_avg_pool1d(input, self.kernel_size, self.stride, self.padding, sigma=self.sigma)


class WeightedAvgPool2d(_WeightedAvgPool):
    """`switchgrad.ops.weighted_avg_pool2d` as a layer, by the distance from the centre.

    >>> import torch
    >>> WeightedAvgPool2d(3, stride=2, padding=1, sigma=0.8)(torch.rand(1, 2, 9, 9)).shape
    torch.Size([1, 2, 5, 5])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.weighted_avg_pool2d(input, self.kernel_size, self.stride, self.padding, sigma=self.sigma)


class WeightedAvgPool3d(_WeightedAvgPool):
    """`switchgrad.ops.weighted_avg_pool3d` as a layer, by the distance from the centre.

    >>> import torch
    >>> WeightedAvgPool3d(3, stride=2, padding=1, sigma=0.8)(torch.rand(1, 2, 9, 9, 9)).shape
    torch.Size([1, 2, 5, 5, 5])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.weighted_avg_pool3d(input, self.kernel_size, self.stride, self.padding, sigma=self.sigma)


class _BlurPool(nn.Module):
    def __init__(self, kernel_size: int = 3, stride: IntOrTuple = 2, padding_mode: Border = "reflect") -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding_mode: Border = padding_mode

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding_mode={self.padding_mode}"


class BlurPool1d(_BlurPool):
    """`switchgrad.ops.blur_pool1d` as a layer.

    >>> import torch
    >>> BlurPool1d(3)(torch.rand(1, 2, 9)).shape
    torch.Size([1, 2, 5])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.blur_pool1d(input, self.kernel_size, self.stride, self.padding_mode)


class BlurPool2d(_BlurPool):
    """`switchgrad.ops.blur_pool2d` as a layer; after ``MaxPool2d(2, stride=1)`` it is Zhang's MaxBlurPool.

    >>> import torch
    >>> nn.Sequential(nn.MaxPool2d(2, stride=1), BlurPool2d(3))(torch.rand(1, 2, 9, 9)).shape
    torch.Size([1, 2, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.blur_pool2d(input, self.kernel_size, self.stride, self.padding_mode)


class BlurPool3d(_BlurPool):
    """`switchgrad.ops.blur_pool3d` as a layer.

    >>> import torch
    >>> BlurPool3d(3, (1, 2, 2))(torch.rand(1, 2, 4, 9, 9)).shape
    torch.Size([1, 2, 4, 5, 5])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.blur_pool3d(input, self.kernel_size, self.stride, self.padding_mode)
