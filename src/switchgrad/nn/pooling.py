"""Max pooling and unpooling as layers: drop-in for ``torch.nn`` by name, argument, result and state_dict (empty)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.max_pool import Pooled
from switchgrad.ops.max_unpool import AnySwitches

__all__ = ["MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"]


class _MaxPool(nn.Module):
    dims: int

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        return_switches: bool = False,
    ) -> None:
        super().__init__()
        window(self.dims, kernel_size, stride, padding, dilation, ceil_mode, (1,) * self.dims)  # refuse what never fits
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode
        self.return_switches = return_switches

    def _arguments(self) -> tuple[IntOrTuple, IntOrTuple, Padding, IntOrTuple, bool, bool]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """`switchgrad.ops.max_pool1d` as a layer.

    >>> import torch
    >>> MaxPool1d(2)(torch.tensor([[1.0, 4.0, 3.0, 2.0]]))
    tensor([[4., 3.]])
    """

    dims = 1

    def forward(self, input: Tensor) -> Pooled:
        return ops.max_pool1d(input, *self._arguments(), return_switches=self.return_switches)


class MaxPool2d(_MaxPool):
    """`switchgrad.ops.max_pool2d` as a layer: change ``torch.nn.MaxPool2d`` to this and nothing else.

    >>> import torch
    >>> MaxPool2d(3, stride=2, padding=1)(torch.rand(8, 64, 112, 112)).shape
    torch.Size([8, 64, 56, 56])
    >>> MaxPool2d(2)
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    """

    dims = 2

    def forward(self, input: Tensor) -> Pooled:
        return ops.max_pool2d(input, *self._arguments(), return_switches=self.return_switches)


class MaxPool3d(_MaxPool):
    """`switchgrad.ops.max_pool3d` as a layer.

    >>> import torch
    >>> MaxPool3d((1, 2, 2))(torch.rand(1, 16, 8, 28, 28)).shape
    torch.Size([1, 16, 8, 14, 14])
    """

    dims = 3

    def forward(self, input: Tensor) -> Pooled:
        return ops.max_pool3d(input, *self._arguments(), return_switches=self.return_switches)


class _MaxUnpool(nn.Module):
    def __init__(
        self, kernel_size: IntOrTuple | None = None, stride: IntOrTuple | None = None, padding: IntOrTuple = 0
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """`switchgrad.ops.max_unpool1d` as a layer; with `switchgrad.Switches` it needs no arguments.

    >>> import torch, switchgrad
    >>> y, switches = switchgrad.ops.max_pool1d(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), 2, return_switches=True)
    >>> MaxUnpool1d()(y, switches)
    tensor([[0., 4., 3., 0.]])
    """

    def forward(self, input: Tensor, indices: Tensor | AnySwitches, output_size: Sequence[int] | None = None) -> Tensor:
        return ops.max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(_MaxUnpool):
    """`switchgrad.ops.max_unpool2d` as a layer; with `switchgrad.Switches` it needs no arguments.

    >>> import torch
    >>> MaxUnpool2d(2)(torch.tensor([[[5.0]]]), torch.tensor([[[1]]]))
    tensor([[[0., 5.],
             [0., 0.]]])
    """

    def forward(self, input: Tensor, indices: Tensor | AnySwitches, output_size: Sequence[int] | None = None) -> Tensor:
        return ops.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(_MaxUnpool):
    """`switchgrad.ops.max_unpool3d` as a layer; with `switchgrad.Switches` it needs no arguments.

    >>> import torch
    >>> MaxUnpool3d((1, 1, 2))(torch.tensor([[[[5.0]]]]), torch.tensor([[[[1]]]])).flatten()
    tensor([0., 5.])
    """

    def forward(self, input: Tensor, indices: Tensor | AnySwitches, output_size: Sequence[int] | None = None) -> Tensor:
        return ops.max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)
