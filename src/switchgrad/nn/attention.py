"""Pooling by attention within the window, and by any function, as layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding
from switchgrad.nn.windowed import Windowed
from switchgrad.ops.checks import function as checked_function

__all__ = [
    "GeneralPool1d",
    "GeneralPool2d",
    "GeneralPool3d",
    "LIPPool1d",
    "LIPPool2d",
    "LIPPool3d",
    "SoftPool1d",
    "SoftPool2d",
    "SoftPool3d",
]


class SoftPool1d(Windowed):
    """`switchgrad.ops.soft_pool1d` as a layer.

    >>> import torch
    >>> SoftPool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.soft_pool1d(input, *self.geometry())


class SoftPool2d(Windowed):
    """`switchgrad.ops.soft_pool2d` as a layer.

    >>> import torch
    >>> SoftPool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.soft_pool2d(input, *self.geometry())


class SoftPool3d(Windowed):
    """`switchgrad.ops.soft_pool3d` as a layer.

    >>> import torch
    >>> SoftPool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.soft_pool3d(input, *self.geometry())


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
        self.logits = checked_function(logits, "logits")


class LIPPool1d(_LIPPool):
    """`switchgrad.ops.lip_pool1d` as a layer: the module ``logits`` says how important each cell is.

    It takes the input and returns a tensor that broadcasts to it. The paper's simplest is a convolution, instance
    normalisation, and a sigmoid times 12.

    >>> import torch
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

    >>> import torch
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

    >>> import torch
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
        self.function = checked_function(function, "function")
        self.fill = fill


class GeneralPool1d(_GeneralPool):
    """`switchgrad.ops.general_pool1d` as a layer; where ``function`` is a module its parameters are learned.

    >>> import torch
    >>> GeneralPool1d(nn.Sequential(nn.Linear(2, 1), nn.Flatten(-2)), 2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.general_pool1d(input, self.function, *self.geometry(), self.fill)


class GeneralPool2d(_GeneralPool):
    """`switchgrad.ops.general_pool2d` as a layer; where ``function`` is a module its parameters are learned.

    >>> import torch
    >>> GeneralPool2d(nn.Sequential(nn.Linear(4, 1), nn.Flatten(-2)), 2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.general_pool2d(input, self.function, *self.geometry(), self.fill)


class GeneralPool3d(_GeneralPool):
    """`switchgrad.ops.general_pool3d` as a layer; where ``function`` is a module its parameters are learned.

    >>> import torch
    >>> GeneralPool3d(nn.Sequential(nn.Linear(8, 1), nn.Flatten(-2)), 2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.general_pool3d(input, self.function, *self.geometry(), self.fill)
