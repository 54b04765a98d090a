"""Pooling with chance in it, as layers: random in training, deterministic in evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding
from switchgrad.nn.windowed import Windowed
from switchgrad.ops.checks import generator_or_none, probability

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgrad.ops.stochastic.fractional import Mode, Ratio
    from switchgrad.ops.stochastic.stochastic_pool import Pooled

__all__ = [
    "FractionalMaxPool1d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "MaxPoolDropout1d",
    "MaxPoolDropout2d",
    "MaxPoolDropout3d",
    "S3Pool1d",
    "S3Pool2d",
    "S3Pool3d",
    "StochasticPool1d",
    "StochasticPool2d",
    "StochasticPool3d",
]


class _RandomWindow(Windowed):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.generator = generator_or_none(generator)


class StochasticPool1d(_RandomWindow):
    """`switchgrad.ops.stochastic_pool1d` as a layer: a draw in training, its expectation in evaluation.

    >>> StochasticPool1d(2)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Pooled:
        return ops.stochastic_pool1d(input, *self.geometry(), self.training, generator=self.generator)


class StochasticPool2d(_RandomWindow):
    """`switchgrad.ops.stochastic_pool2d` as a layer: a draw in training, its expectation in evaluation.

    >>> StochasticPool2d(2)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Pooled:
        return ops.stochastic_pool2d(input, *self.geometry(), self.training, generator=self.generator)


class StochasticPool3d(_RandomWindow):
    """`switchgrad.ops.stochastic_pool3d` as a layer: a draw in training, its expectation in evaluation.

    >>> StochasticPool3d(2)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Pooled:
        return ops.stochastic_pool3d(input, *self.geometry(), self.training, generator=self.generator)


class _MaxPoolDropout(_RandomWindow):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        padding: Padding = 0,
        dilation: IntOrTuple = 1,
        ceil_mode: bool = False,
        p: float = 0.5,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, generator=generator)
        self.p = probability("p", p)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}"


class MaxPoolDropout1d(_MaxPoolDropout):
    """`switchgrad.ops.max_pool_dropout1d` as a layer: dropout in training, its expectation in evaluation.

    >>> MaxPoolDropout1d(2, p=0.3)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    dims = 1

    def forward(self, input: Tensor) -> Pooled:
        return ops.max_pool_dropout1d(input, *self.geometry(), self.p, self.training, generator=self.generator)


class MaxPoolDropout2d(_MaxPoolDropout):
    """`switchgrad.ops.max_pool_dropout2d` as a layer: dropout in training, its expectation in evaluation.

    >>> MaxPoolDropout2d(2, p=0.3)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    dims = 2

    def forward(self, input: Tensor) -> Pooled:
        return ops.max_pool_dropout2d(input, *self.geometry(), self.p, self.training, generator=self.generator)


class MaxPoolDropout3d(_MaxPoolDropout):
    """`switchgrad.ops.max_pool_dropout3d` as a layer: dropout in training, its expectation in evaluation.

    >>> MaxPoolDropout3d(2, p=0.3)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    dims = 3

    def forward(self, input: Tensor) -> Pooled:
        return ops.max_pool_dropout3d(input, *self.geometry(), self.p, self.training, generator=self.generator)


class _S3Pool(nn.Module):
    def __init__(
        self,
        kernel_size: IntOrTuple,
        stride: IntOrTuple | None = None,
        grid_size: IntOrTuple | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.grid_size = kernel_size if grid_size is None else grid_size
        self.generator = generator_or_none(generator)

    def _sizes(self) -> tuple[IntOrTuple, IntOrTuple, IntOrTuple]:
        return self.kernel_size, self.stride, self.grid_size

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, grid_size={self.grid_size}"


class S3Pool1d(_S3Pool):
    """`switchgrad.ops.s3_pool1d` as a layer: random places in training, averages in evaluation.

    >>> S3Pool1d(2, grid_size=6)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    def forward(self, input: Tensor) -> Pooled:
        return ops.s3_pool1d(input, *self._sizes(), self.training, generator=self.generator)


class S3Pool2d(_S3Pool):
    """`switchgrad.ops.s3_pool2d` as a layer: random places in training, averages in evaluation.

    >>> S3Pool2d(2, grid_size=6)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    def forward(self, input: Tensor) -> Pooled:
        return ops.s3_pool2d(input, *self._sizes(), self.training, generator=self.generator)


class S3Pool3d(_S3Pool):
    """`switchgrad.ops.s3_pool3d` as a layer: random places in training, averages in evaluation.

    >>> S3Pool3d(2, grid_size=6)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    def forward(self, input: Tensor) -> Pooled:
        return ops.s3_pool3d(input, *self._sizes(), self.training, generator=self.generator)


class _FractionalMaxPool(nn.Module):
    _random_samples: Tensor | None

    def __init__(
        self,
        kernel_size: IntOrTuple,
        output_size: IntOrTuple | None = None,
        output_ratio: Ratio | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        mode: Mode = "pseudorandom",
        return_switches: bool = False,
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            raise GeometryError("give either output_size or output_ratio")
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.generator = generator_or_none(generator)
        self.mode: Mode = mode
        self.return_switches = return_switches

    def _pooled(self, pool: Callable[..., Pooled], input: Tensor) -> Pooled:
        return pool(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._random_samples,
            generator=self.generator,
            mode=self.mode,
            return_switches=self.return_switches,
        )

    def extra_repr(self) -> str:
        size = f"output_ratio={self.output_ratio}" if self.output_size is None else f"output_size={self.output_size}"
        return f"kernel_size={self.kernel_size}, {size}, mode={self.mode}"


class FractionalMaxPool1d(_FractionalMaxPool):
    """`switchgrad.ops.fractional_max_pool1d` as a layer: random in evaluation too, as `FractionalMaxPool2d` is.

    >>> FractionalMaxPool1d(2, output_ratio=0.7)(torch.rand(2, 9)).shape
    torch.Size([2, 6])
    """

    def forward(self, input: Tensor) -> Pooled:
        return self._pooled(ops.fractional_max_pool1d, input)


class FractionalMaxPool2d(_FractionalMaxPool):
    """`switchgrad.ops.fractional_max_pool2d` as a layer, in place of ``torch.nn.FractionalMaxPool2d``.

    It stays random in evaluation, as PyTorch's does and the paper asks for (several passes are averaged).

    >>> FractionalMaxPool2d(2, output_ratio=0.7)(torch.rand(2, 9, 9)).shape
    torch.Size([2, 6, 6])
    """

    def forward(self, input: Tensor) -> Pooled:
        return self._pooled(ops.fractional_max_pool2d, input)


class FractionalMaxPool3d(_FractionalMaxPool):
    """`switchgrad.ops.fractional_max_pool3d` as a layer, in place of ``torch.nn.FractionalMaxPool3d``.

    It stays random in evaluation, as PyTorch's does and the paper asks for (several passes are averaged).

    >>> FractionalMaxPool3d(2, output_ratio=0.7)(torch.rand(2, 9, 9, 9)).shape
    torch.Size([2, 6, 6, 6])
    """

    def forward(self, input: Tensor) -> Pooled:
        return self._pooled(ops.fractional_max_pool3d, input)
