"""Layers that do the work of several in one pass: parameters and buffers are named as in the layers they stand for."""

from __future__ import annotations

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.max_pool import Pooled

__all__ = ["ReLUMaxPool2d"]


class ReLUMaxPool2d(nn.Module):
    """`switchgrad.ops.relu_max_pool2d` as a layer, for ``ReLU`` (or ``LeakyReLU``) and ``MaxPool2d`` in a row.

    >>> import torch
    >>> ReLUMaxPool2d(2)(torch.tensor([[[-1.0, 3.0], [2.0, 0.0]]]))
    tensor([[[3.]]])
    >>> ReLUMaxPool2d(3, stride=2, negative_slope=0.1)
    ReLUMaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False, negative_slope=0.1)
    """

    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        negative_slope: float = 0.0,
        return_switches: bool = False,
    ) -> None:
        super().__init__()
        window(2, kernel_size, stride, padding, dilation, ceil_mode, (1, 1))  # refuse what never fits
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self.negative_slope = negative_slope
        self.return_switches = return_switches

    def forward(self, input: Tensor) -> Pooled:
        return ops.relu_max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.negative_slope,
            self.return_switches,
        )

    def extra_repr(self) -> str:
        slope = f", negative_slope={self.negative_slope}" if self.negative_slope else ""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}{slope}"
        )
