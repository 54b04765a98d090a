"""Convolution as a layer, drop-in for ``torch.nn.Conv2d``, and with a ReLU behind it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.ops.convolution.choice import Algorithm, check_algorithm

__all__ = ["Conv2d", "ConvReLU2d"]


class Conv2d(nn.Conv2d):
    """`switchgrad.ops.conv2d` as a layer: ``torch.nn.Conv2d`` with less arithmetic in 3x3 and 5x5 kernels.

    Arguments, parameters, initialisation and state_dict are PyTorch's; ``algorithm`` is that of the operator. Padding
    modes other than zeros are PyTorch's convolution.

    >>> import torch
    >>> layer = Conv2d(16, 32, 3, padding=1, algorithm="winograd2")
    >>> layer
    Conv2d(16, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), algorithm='winograd2')
    >>> layer(torch.rand(2, 16, 8, 8)).shape
    torch.Size([2, 32, 8, 8])
    """

    def __init__(self, *args: Any, algorithm: Algorithm = "auto", **kwargs: Any) -> None:
        check_algorithm(algorithm)
        super().__init__(*args, **kwargs)
        self.algorithm: Algorithm = algorithm

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode != "zeros":
            return super()._conv_forward(input, weight, bias)
        return ops.conv2d(input, weight, bias, *self._geometry(), algorithm=self.algorithm)

    def _geometry(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def extra_repr(self) -> str:
        """PyTorch's, and the algorithm."""
        return f"{super().extra_repr()}, algorithm={self.algorithm!r}"


class ConvReLU2d(Conv2d):
    """`switchgrad.ops.conv_bias_relu` as a layer, for ``Conv2d`` and ``ReLU`` in a row.

    >>> import torch
    >>> bool((ConvReLU2d(3, 4, 3)(torch.randn(1, 3, 8, 8)) >= 0).all())
    True
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode != "zeros":
            return super()._conv_forward(input, weight, bias).relu()
        return ops.conv_bias_relu(input, weight, bias, *self._geometry(), algorithm=self.algorithm)
