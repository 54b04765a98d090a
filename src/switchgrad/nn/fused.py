"""Layers that do the work of several in one pass: parameters and buffers are named as in the layers they stand for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.max_pool import Pooled

__all__ = [
    "BatchNormReLU2d",
    "BatchNormReLUMaxPool2d",
    "CrossEntropyLoss",
    "Dropout",
    "ReLUDropout",
    "ReLUMaxPool2d",
]


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


class BatchNormReLU2d(nn.BatchNorm2d):
    """`switchgrad.ops.batch_norm_relu` as a layer, for ``BatchNorm2d`` and ``ReLU`` in a row.

    It is a ``torch.nn.BatchNorm2d``: the same arguments, parameters, buffers and state_dict, and the same running
    statistics after every step, the average of all batches (``momentum=None``) included.

    >>> import torch
    >>> BatchNormReLU2d(3)(torch.randn(4, 3, 5, 5)).min().item()
    0.0
    >>> list(BatchNormReLU2d(3).state_dict())
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        return ops.batch_norm_relu(input, *self._normalisation())

    def _normalisation(
        self,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, bool, float, float]:
        """Running statistics, parameters, whether to measure, momentum and eps, as torch.nn.BatchNorm2d has them."""
        momentum = self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1.0 / float(self.num_batches_tracked) if momentum is None else momentum
        measures = self.training or (self.running_mean is None and self.running_var is None)
        keeps = not self.training or self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if keeps else (None, None)
        return mean, var, self.weight, self.bias, measures, momentum or 0.0, self.eps


class BatchNormReLUMaxPool2d(BatchNormReLU2d):
    """`switchgrad.ops.batch_norm_relu_max_pool2d` as a layer, for ``BatchNorm2d``, ``ReLU`` and ``MaxPool2d`` in a row.

    Parameters, buffers and state_dict are those of ``torch.nn.BatchNorm2d``, as in `BatchNormReLU2d`.

    >>> import torch
    >>> BatchNormReLUMaxPool2d(64, 3, stride=2, padding=1)(torch.randn(2, 64, 112, 112)).shape
    torch.Size([2, 64, 56, 56])
    """

    def __init__(
        self,
        num_features: int,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        window(2, kernel_size, stride, padding, dilation, ceil_mode, (1, 1))  # refuse what never fits
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        window = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return ops.batch_norm_relu_max_pool2d(input, *self._normalisation(), *window)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class Dropout(nn.Dropout):
    """`switchgrad.ops.dropout` as a layer: ``torch.nn.Dropout`` whose mask is never stored, and drawn faster.

    ``inplace`` is taken and not heeded: the result is a tensor of its own.

    >>> import torch
    >>> Dropout(0.5).eval()(torch.ones(2))
    tensor([1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.dropout(input, self.p, self.training)


class ReLUDropout(nn.Module):
    """`switchgrad.ops.bias_relu_dropout` without a bias as a layer, for ``ReLU`` and ``Dropout`` in a row.

    >>> import torch
    >>> ReLUDropout(0.5).eval()(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return ops.bias_relu_dropout(input, None, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """`switchgrad.ops.cross_entropy` as a layer, with the arguments of ``torch.nn.CrossEntropyLoss``.

    >>> import torch
    >>> CrossEntropyLoss()(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item()  # log 4
    1.3862943649291992
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, label_smoothing=self.label_smoothing
        )
