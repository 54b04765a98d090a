"""Average, sum and adaptive pooling as layers: drop-in for ``torch.nn`` by name, argument, result and state_dict."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.adaptive_pool import OutputSize

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
]


class _Windowed(nn.Module):
    dims: int

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None,
        padding: Padding,
        ceil_mode: bool,
        dilation: IntOrTuple,
    ) -> None:
        super().__init__()
        window(self.dims, kernel_size, stride, padding, dilation, ceil_mode, (1,) * self.dims)  # refuse what never fits
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.dilation = dilation

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(_Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        dilation: IntOrTuple = 1,
    ) -> None:
        if divisor_override == 0:
            raise GeometryError("divisor_override is 0; give a number to divide by, or None for the number of cells")
        super().__init__(kernel_size, stride, padding, ceil_mode, dilation)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def _arguments(self) -> tuple[IntOrTuple, IntOrTuple, Padding, bool, bool, int | None]:
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool1d(_AvgPool):
    """`switchgrad.ops.avg_pool1d` as a layer.

    >>> import torch
    >>> AvgPool1d(2)(torch.tensor([[1.0, 4.0, 3.0, 2.0]]))
    tensor([[2.5000, 2.5000]])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.avg_pool1d(input, *self._arguments(), dilation=self.dilation)


class AvgPool2d(_AvgPool):
    """`switchgrad.ops.avg_pool2d` as a layer: change ``torch.nn.AvgPool2d`` to this and nothing else.

    >>> import torch
    >>> AvgPool2d(3, stride=2, padding=1)(torch.rand(8, 64, 112, 112)).shape
    torch.Size([8, 64, 56, 56])
    >>> AvgPool2d(2)
    AvgPool2d(kernel_size=2, stride=2, padding=0)
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.avg_pool2d(input, *self._arguments(), dilation=self.dilation)


class AvgPool3d(_AvgPool):
    """`switchgrad.ops.avg_pool3d` as a layer.

    >>> import torch
    >>> AvgPool3d((1, 2, 2))(torch.rand(1, 16, 8, 28, 28)).shape
    torch.Size([1, 16, 8, 14, 14])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.avg_pool3d(input, *self._arguments(), dilation=self.dilation)


class _SumPool(_Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        *,
        dilation: IntOrTuple = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, dilation)

    def _arguments(self) -> tuple[IntOrTuple, IntOrTuple, Padding, bool]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode


class SumPool1d(_SumPool):
    """`switchgrad.ops.sum_pool1d` as a layer.

    >>> import torch
    >>> SumPool1d(2)(torch.tensor([[1.0, 4.0, 3.0, 2.0]]))
    tensor([[5., 5.]])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.sum_pool1d(input, *self._arguments(), dilation=self.dilation)


class SumPool2d(_SumPool):
    """`switchgrad.ops.sum_pool2d` as a layer.

    >>> import torch
    >>> SumPool2d(2)(torch.ones(1, 2, 4))
    tensor([[[4., 4.]]])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.sum_pool2d(input, *self._arguments(), dilation=self.dilation)


class SumPool3d(_SumPool):
    """`switchgrad.ops.sum_pool3d` as a layer.

    >>> import torch
    >>> SumPool3d(2)(torch.ones(1, 2, 2, 4))
    tensor([[[[8., 8.]]]])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.sum_pool3d(input, *self._arguments(), dilation=self.dilation)


class _Adaptive(nn.Module):
    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    """`switchgrad.ops.adaptive_avg_pool1d` as a layer.

    >>> import torch
    >>> AdaptiveAvgPool1d(2)(torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0]]))
    tensor([[3., 7.]])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_Adaptive):
    """`switchgrad.ops.adaptive_avg_pool2d` as a layer.

    >>> import torch
    >>> AdaptiveAvgPool2d((None, 3))(torch.rand(2, 3, 5, 7)).shape
    torch.Size([2, 3, 5, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_Adaptive):
    """`switchgrad.ops.adaptive_avg_pool3d` as a layer.

    >>> import torch
    >>> AdaptiveAvgPool3d(1)(torch.ones(2, 3, 4, 5, 6)).flatten(1).shape
    torch.Size([2, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.adaptive_avg_pool3d(input, self.output_size)


class _AdaptiveMax(_Adaptive):
    def __init__(self, output_size: OutputSize, return_indices: bool = False, *, return_switches: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices
        self.return_switches = return_switches


class AdaptiveMaxPool1d(_AdaptiveMax):
    """`switchgrad.ops.adaptive_max_pool1d` as a layer.

    >>> import torch
    >>> AdaptiveMaxPool1d(2)(torch.tensor([[1.0, 3.0, 5.0, 2.0, 4.0]]))
    tensor([[5., 5.]])
    """

    def forward(self, input: Tensor) -> Any:
        return ops.adaptive_max_pool1d(
            input, self.output_size, self.return_indices, return_switches=self.return_switches
        )


class AdaptiveMaxPool2d(_AdaptiveMax):
    """`switchgrad.ops.adaptive_max_pool2d` as a layer.

    >>> import torch
    >>> AdaptiveMaxPool2d(6)(torch.rand(2, 3, 13, 20)).shape
    torch.Size([2, 3, 6, 6])
    """

    def forward(self, input: Tensor) -> Any:
        return ops.adaptive_max_pool2d(
            input, self.output_size, self.return_indices, return_switches=self.return_switches
        )


class AdaptiveMaxPool3d(_AdaptiveMax):
    """`switchgrad.ops.adaptive_max_pool3d` as a layer.

    >>> import torch
    >>> AdaptiveMaxPool3d((2, 1, 1))(torch.arange(8.0).reshape(1, 2, 2, 2)).flatten()
    tensor([3., 7.])
    """

    def forward(self, input: Tensor) -> Any:
        return ops.adaptive_max_pool3d(
            input, self.output_size, self.return_indices, return_switches=self.return_switches
        )
