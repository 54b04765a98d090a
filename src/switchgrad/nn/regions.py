"""Boxes on feature maps, as layers: torchvision's names and arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple

if TYPE_CHECKING:
    from switchgrad.ops.regions.boxes import Boxes

__all__ = ["PSRoIAlign", "PSRoIPool", "RoIAlign", "RoIAvgPool", "RoIPool"]


class _RoI(nn.Module):
    def __init__(self, output_size: IntOrTuple, spatial_scale: float = 1.0) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class RoIPool(_RoI):
    """`switchgrad.ops.roi_pool` as a layer.

    >>> import torch
    >>> RoIPool(7, 1 / 16)(torch.rand(1, 3, 20, 20), [torch.tensor([[0.0, 0.0, 99.0, 99.0]])]).shape
    torch.Size([1, 3, 7, 7])
    """

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return ops.roi_pool(input, rois, self.output_size, self.spatial_scale)


class RoIAvgPool(_RoI):
    """`switchgrad.ops.roi_avg_pool` as a layer.

    >>> import torch
    >>> RoIAvgPool((2, 3))(torch.rand(1, 3, 20, 20), torch.tensor([[0.0, 1, 2, 9, 9]])).shape
    torch.Size([1, 3, 2, 3])
    """

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return ops.roi_avg_pool(input, rois, self.output_size, self.spatial_scale)


class PSRoIPool(_RoI):
    """`switchgrad.ops.ps_roi_pool` as a layer.

    >>> import torch
    >>> PSRoIPool(3)(torch.rand(1, 18, 20, 20), torch.tensor([[0.0, 1, 2, 9, 9]])).shape
    torch.Size([1, 2, 3, 3])
    """

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return ops.ps_roi_pool(input, rois, self.output_size, self.spatial_scale)


class _RoIAlign(_RoI):
    def __init__(self, output_size: IntOrTuple, spatial_scale: float = 1.0, sampling_ratio: int = -1) -> None:
        super().__init__(output_size, spatial_scale)
        self.sampling_ratio = sampling_ratio

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sampling_ratio={self.sampling_ratio}"


class RoIAlign(_RoIAlign):
    """`switchgrad.ops.roi_align` as a layer.

    >>> import torch
    >>> RoIAlign(7, 1 / 16, aligned=True)(torch.rand(1, 3, 20, 20), [torch.tensor([[0.0, 0.0, 99.0, 99.0]])]).shape
    torch.Size([1, 3, 7, 7])
    """

    def __init__(
        self, output_size: IntOrTuple, spatial_scale: float = 1.0, sampling_ratio: int = -1, aligned: bool = False
    ) -> None:
        super().__init__(output_size, spatial_scale, sampling_ratio)
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return ops.roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, aligned={self.aligned}"


class PSRoIAlign(_RoIAlign):
    """`switchgrad.ops.ps_roi_align` as a layer.

    >>> import torch
    >>> PSRoIAlign(3)(torch.rand(1, 18, 20, 20), torch.tensor([[0.0, 1, 2, 9, 9]])).shape
    torch.Size([1, 2, 3, 3])
    """

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return ops.ps_roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio)
