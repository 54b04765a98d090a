"""Pooling by statistics, as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding
from switchgrad.nn.windowed import Windowed

if TYPE_CHECKING:
    from switchgrad.ops.statistical.likelihood import Statistic

__all__ = [
    "GammaPool1d",
    "GammaPool2d",
    "GammaPool3d",
    "GlobalEntropyPool",
    "MaxMinPool1d",
    "MaxMinPool2d",
    "MaxMinPool3d",
    "WeibullPool1d",
    "WeibullPool2d",
    "WeibullPool3d",
]


class GlobalEntropyPool(nn.Module):
    """`switchgrad.ops.global_entropy_pool` as a layer, in the place of global average pooling.

    >>> import torch
    >>> GlobalEntropyPool()(torch.rand(2, 8, 7, 7)).shape
    torch.Size([2, 8])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.global_entropy_pool(input)


class MaxMinPool1d(Windowed):
    """`switchgrad.ops.max_min_pool1d` as a layer: twice the channels.

    >>> import torch
    >>> MaxMinPool1d(2)(torch.rand(1, 2, 6)).shape[:2]
    torch.Size([1, 4])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.max_min_pool1d(input, *self.geometry())


class MaxMinPool2d(Windowed):
    """`switchgrad.ops.max_min_pool2d` as a layer: twice the channels.

    >>> import torch
    >>> MaxMinPool2d(2)(torch.rand(1, 2, 6, 6)).shape[:2]
    torch.Size([1, 4])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.max_min_pool2d(input, *self.geometry())


class MaxMinPool3d(Windowed):
    """`switchgrad.ops.max_min_pool3d` as a layer: twice the channels.

    >>> import torch
    >>> MaxMinPool3d(2)(torch.rand(1, 2, 6, 6, 6)).shape[:2]
    torch.Size([1, 4])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.max_min_pool3d(input, *self.geometry())


class _GammaPool(Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        statistic: Statistic = "scale",
        eps: float = 1e-6,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.statistic: Statistic = statistic
        self.eps = eps

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, statistic={self.statistic}"


class GammaPool1d(_GammaPool):
    """`switchgrad.ops.gamma_pool1d` as a layer.

    >>> import torch
    >>> GammaPool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.gamma_pool1d(input, *self.geometry(), self.statistic, self.eps)


class GammaPool2d(_GammaPool):
    """`switchgrad.ops.gamma_pool2d` as a layer.

    >>> import torch
    >>> GammaPool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.gamma_pool2d(input, *self.geometry(), self.statistic, self.eps)


class GammaPool3d(_GammaPool):
    """`switchgrad.ops.gamma_pool3d` as a layer.

    >>> import torch
    >>> GammaPool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.gamma_pool3d(input, *self.geometry(), self.statistic, self.eps)


class _WeibullPool(_GammaPool):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        shape: float | None = None,
        statistic: Statistic = "scale",
        eps: float = 1e-6,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, statistic, eps)
        self.shape = shape


class WeibullPool1d(_WeibullPool):
    """`switchgrad.ops.weibull_pool1d` as a layer.

    >>> import torch
    >>> WeibullPool1d(2, shape=3.0)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        return ops.weibull_pool1d(input, *self.geometry(), self.shape, self.statistic, self.eps)


class WeibullPool2d(_WeibullPool):
    """`switchgrad.ops.weibull_pool2d` as a layer.

    >>> import torch
    >>> WeibullPool2d(2, shape=3.0)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Tensor:
        return ops.weibull_pool2d(input, *self.geometry(), self.shape, self.statistic, self.eps)


class WeibullPool3d(_WeibullPool):
    """`switchgrad.ops.weibull_pool3d` as a layer.

    >>> import torch
    >>> WeibullPool3d(2, shape=3.0)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Tensor:
        return ops.weibull_pool3d(input, *self.geometry(), self.shape, self.statistic, self.eps)
