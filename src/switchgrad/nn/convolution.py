"""Convolution as a layer, drop-in for ``torch.nn.Conv2d``, and with a ReLU or a max pooling behind it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding
from switchgrad.ops.conv_pool import pool_window
from switchgrad.ops.convolution.choice import Algorithm, check_algorithm
from switchgrad.ops.max_pool import Pooled

__all__ = ["Conv2d", "ConvMaxPool2d", "ConvReLU2d", "ConvReLUMaxPool2d"]


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


_USUAL = {"pool_padding": 0, "pool_dilation": 1, "ceil_mode": False, "return_switches": False, "negative_slope": 0}


class ConvMaxPool2d(nn.Conv2d):
    """`switchgrad.ops.conv_max_pool2d` as a layer, for ``Conv2d`` and ``MaxPool2d`` in a row.

    The arguments of ``torch.nn.Conv2d``, its parameters and state_dict; then the pooling's, by name.

    >>> import torch
    >>> block = ConvMaxPool2d(3, 4, 3, padding=1, pool_size=3, pool_stride=2)
    >>> block
    ConvMaxPool2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), pool_size=3, pool_stride=2)
    >>> block(torch.rand(2, 3, 9, 9)).shape
    torch.Size([2, 4, 4, 4])
    """

    def __init__(
        self,
        *args: Any,
        pool_size: IntOrTuple = 2,
        pool_stride: IntOrTuple | None = None,
        pool_padding: Padding = 0,
        pool_dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        return_switches: bool = False,
        **kwargs: Any,
    ) -> None:
        pool_window(pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode, (1, 1))  # refuse what never fits
        super().__init__(*args, **kwargs)
        self.pool_size = pool_size
        self.pool_stride = pool_size if pool_stride is None else pool_stride
        self.pool_padding = pool_padding
        self.pool_dilation = pool_dilation
        self.ceil_mode = ceil_mode
        self.return_switches = return_switches

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Pooled:
        return self._block(*self._padded(input), weight, bias, **self._pooling())

    def _block(self, input: Tensor, padding: Any, weight: Tensor, bias: Tensor | None, **pooling: Any) -> Pooled:
        return ops.conv_max_pool2d(input, weight, bias, padding=padding, **self._convolution(), **pooling)

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input and the zeros still to be put around it: padding of other kinds is put there first."""
        if self.padding_mode == "zeros":
            return input, self.padding
        return nn.functional.pad(input, self._reversed_padding_repeated_twice, self.padding_mode), 0

    def _convolution(self) -> dict[str, Any]:
        return {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}

    def _pooling(self) -> dict[str, Any]:
        names = ("pool_size", "pool_stride", "pool_padding", "pool_dilation", "ceil_mode", "return_switches")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        """PyTorch's, and what was given for the pooling."""
        usual = {
            "pool_padding": 0,
            "pool_dilation": 1,
            "ceil_mode": False,
            "return_switches": False,
            "negative_slope": 0,
        }
        told = (f"{name}={value!r}" for name, value in self._pooling().items() if usual.get(name) != value)
        return ", ".join((super().extra_repr(), *told))


class ConvReLUMaxPool2d(ConvMaxPool2d):
    """`switchgrad.ops.conv_relu_max_pool2d` as a layer, for ``Conv2d``, ``ReLU`` and ``MaxPool2d`` in a row.

    As `ConvMaxPool2d`; ``negative_slope`` makes the ReLU leaky.

    >>> import torch
    >>> block = ConvReLUMaxPool2d(1, 2, 1, bias=False, negative_slope=0.5)
    >>> torch.nn.init.ones_(block.weight)[0].item()
    1.0
    >>> block(-torch.ones(1, 1, 2, 2)).flatten().tolist()
    [-0.5, -0.5]
    """

    def __init__(self, *args: Any, negative_slope: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.negative_slope = negative_slope

    def _block(self, input: Tensor, padding: Any, weight: Tensor, bias: Tensor | None, **pooling: Any) -> Pooled:
        return ops.conv_relu_max_pool2d(input, weight, bias, padding=padding, **self._convolution(), **pooling)

    def _pooling(self) -> dict[str, Any]:
        return {**super()._pooling(), "negative_slope": self.negative_slope}
