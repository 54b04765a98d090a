"""Unpooling without switches, as layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple

__all__ = [
    "AvgUnpool1d",
    "AvgUnpool2d",
    "AvgUnpool3d",
    "BilinearUnpool2d",
    "LinearUnpool1d",
    "NearestUnpool1d",
    "NearestUnpool2d",
    "NearestUnpool3d",
    "TrilinearUnpool3d",
]


class _AvgUnpool(nn.Module):
    def __init__(self, kernel_size: IntOrTuple, stride: IntOrTuple | None = None, padding: IntOrTuple = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgUnpool1d(_AvgUnpool):
    """`switchgrad.ops.avg_unpool1d` as a layer.

    >>> import torch
    >>> AvgUnpool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 12])
    """

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return ops.avg_unpool1d(input, self.kernel_size, self.stride, self.padding, output_size)


class AvgUnpool2d(_AvgUnpool):
    """`switchgrad.ops.avg_unpool2d` as a layer.

    >>> import torch
    >>> AvgUnpool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 12, 12])
    """

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return ops.avg_unpool2d(input, self.kernel_size, self.stride, self.padding, output_size)


class AvgUnpool3d(_AvgUnpool):
    """`switchgrad.ops.avg_unpool3d` as a layer.

    >>> import torch
    >>> AvgUnpool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 12, 12, 12])
    """

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return ops.avg_unpool3d(input, self.kernel_size, self.stride, self.padding, output_size)


class _Resized(nn.Module):
    def __init__(self, scale: IntOrTuple | None = None, output_size: IntOrTuple | None = None) -> None:
        super().__init__()
        if (scale is None) == (output_size is None):
            raise GeometryError("give either scale or output_size")
        self.scale = scale
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}" if self.scale is None else f"scale={self.scale}"


class NearestUnpool1d(_Resized):
    """`switchgrad.ops.nearest_unpool1d` as a layer.

    >>> import torch
    >>> NearestUnpool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 12])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.nearest_unpool1d(input, self.scale, self.output_size)


class NearestUnpool2d(_Resized):
    """`switchgrad.ops.nearest_unpool2d` as a layer.

    >>> import torch
    >>> NearestUnpool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 12, 12])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.nearest_unpool2d(input, self.scale, self.output_size)


class NearestUnpool3d(_Resized):
    """`switchgrad.ops.nearest_unpool3d` as a layer.

    >>> import torch
    >>> NearestUnpool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 12, 12, 12])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.nearest_unpool3d(input, self.scale, self.output_size)


class _Linear(_Resized):
    def __init__(
        self, scale: IntOrTuple | None = None, output_size: IntOrTuple | None = None, align_corners: bool = False
    ) -> None:
        super().__init__(scale, output_size)
        self.align_corners = align_corners

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, align_corners={self.align_corners}"


class LinearUnpool1d(_Linear):
    """`switchgrad.ops.linear_unpool1d` as a layer.

    >>> import torch
    >>> LinearUnpool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 12])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.linear_unpool1d(input, self.scale, self.output_size, self.align_corners)


class BilinearUnpool2d(_Linear):
    """`switchgrad.ops.bilinear_unpool2d` as a layer.

    >>> import torch
    >>> BilinearUnpool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 12, 12])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.bilinear_unpool2d(input, self.scale, self.output_size, self.align_corners)


class TrilinearUnpool3d(_Linear):
    """`switchgrad.ops.trilinear_unpool3d` as a layer.

    >>> import torch
    >>> TrilinearUnpool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 12, 12, 12])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.trilinear_unpool3d(input, self.scale, self.output_size, self.align_corners)
