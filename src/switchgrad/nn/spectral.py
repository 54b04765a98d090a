"""Pooling in other bases, as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from switchgrad import ops
from switchgrad.errors import ModelError
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.checks import count

if TYPE_CHECKING:
    from switchgrad.ops.spectral.fourier import Norm

__all__ = [
    "DFTMagnitudePool1d",
    "DFTMagnitudePool2d",
    "DFTMagnitudePool3d",
    "LDWPool1d",
    "LDWPool2d",
    "LDWPool3d",
    "SpectralPool1d",
    "SpectralPool2d",
    "SpectralPool3d",
    "WaveletPool1d",
    "WaveletPool2d",
    "WaveletPool3d",
]


class _Sized(nn.Module):
    def __init__(self, output_size: IntOrTuple) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _SpectralPool(_Sized):
    def __init__(self, output_size: IntOrTuple, norm: Norm = "forward") -> None:
        super().__init__(output_size)
        self.norm: Norm = norm


class SpectralPool1d(_SpectralPool):
    """`switchgrad.ops.spectral_pool1d` as a layer.

    >>> SpectralPool1d(3)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.spectral_pool1d(input, self.output_size, self.norm)


class SpectralPool2d(_SpectralPool):
    """`switchgrad.ops.spectral_pool2d` as a layer.

    >>> SpectralPool2d(3)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.spectral_pool2d(input, self.output_size, self.norm)


class SpectralPool3d(_SpectralPool):
    """`switchgrad.ops.spectral_pool3d` as a layer.

    >>> SpectralPool3d(3)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.spectral_pool3d(input, self.output_size, self.norm)


class DFTMagnitudePool1d(_Sized):
    """`switchgrad.ops.dft_magnitude_pool1d` as a layer.

    >>> DFTMagnitudePool1d(3)(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.dft_magnitude_pool1d(input, self.output_size)


class DFTMagnitudePool2d(_Sized):
    """`switchgrad.ops.dft_magnitude_pool2d` as a layer.

    >>> DFTMagnitudePool2d(3)(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.dft_magnitude_pool2d(input, self.output_size)


class DFTMagnitudePool3d(_Sized):
    """`switchgrad.ops.dft_magnitude_pool3d` as a layer.

    >>> DFTMagnitudePool3d(3)(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.dft_magnitude_pool3d(input, self.output_size)


class WaveletPool1d(nn.Module):
    """`switchgrad.ops.wavelet_pool1d` with Haar's filter as a layer.

    >>> WaveletPool1d()(torch.rand(2, 6)).shape
    torch.Size([2, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.wavelet_pool1d(input)


class WaveletPool2d(nn.Module):
    """`switchgrad.ops.wavelet_pool2d` with Haar's filter as a layer.

    >>> WaveletPool2d()(torch.rand(2, 6, 6)).shape
    torch.Size([2, 3, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.wavelet_pool2d(input)


class WaveletPool3d(nn.Module):
    """`switchgrad.ops.wavelet_pool3d` with Haar's filter as a layer.

    >>> WaveletPool3d()(torch.rand(2, 6, 6, 6)).shape
    torch.Size([2, 3, 3, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.wavelet_pool3d(input)


class _LDWPool(nn.Module):
    def __init__(self, taps: int = 2) -> None:
        super().__init__()
        if count(taps, "taps", 2, error=ModelError) % 2:
            raise ModelError(f"taps is {taps}; a wavelet filter has an even number of them")
        self.low = nn.Parameter(torch.empty(taps))
        self.high = nn.Parameter(torch.empty(taps))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the filters Haar's, with zeros around."""
        middle = len(self.low) // 2
        with torch.no_grad():
            self.low.zero_()[middle - 1 : middle + 1] = 0.5**0.5
            self.high.zero_()[middle - 1] = 0.5**0.5
            self.high[middle] = -(0.5**0.5)

    def filter_loss(self) -> Tensor:
        """How far the filters are from an orthogonal wavelet's: add it to the loss, so that nothing gets lost.

        The sum of squares of: each filter's length less 1, its product with itself and with the other one moved by
        every even number of taps, and the sum of the high-pass filter.
        """
        low, high = self.low, self.high
        terms = [low.square().sum() - 1, high.square().sum() - 1, low @ high, high.sum()]
        for shift in range(2, len(low), 2):
            moved_low, moved_high = low[shift:], high[shift:]
            still_low, still_high = low[:-shift], high[:-shift]
            terms += [moved_low @ still_low, moved_high @ still_high, moved_low @ still_high, moved_high @ still_low]
        return torch.stack(terms).square().sum()

    def extra_repr(self) -> str:
        return f"taps={len(self.low)}"


class LDWPool1d(_LDWPool):
    """`switchgrad.ops.ldw_pool1d` as a layer: both filters are learned, from Haar's.

    >>> pool = LDWPool1d()
    >>> pool(torch.rand(2, 6)).shape, round(pool.filter_loss().item(), 6)
    (torch.Size([2, 3]), 0.0)
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.ldw_pool1d(input, self.low, self.high)


class LDWPool2d(_LDWPool):
    """`switchgrad.ops.ldw_pool2d` as a layer: both filters are learned, from Haar's.

    >>> pool = LDWPool2d()
    >>> pool(torch.rand(2, 6, 6)).shape, round(pool.filter_loss().item(), 6)
    (torch.Size([2, 3, 3]), 0.0)
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.ldw_pool2d(input, self.low, self.high)


class LDWPool3d(_LDWPool):
    """`switchgrad.ops.ldw_pool3d` as a layer: both filters are learned, from Haar's.

    >>> pool = LDWPool3d()
    >>> pool(torch.rand(2, 6, 6, 6)).shape, round(pool.filter_loss().item(), 6)
    (torch.Size([2, 3, 3, 3]), 0.0)
    """

    def forward(self, input: Tensor) -> Tensor:
        return ops.ldw_pool3d(input, self.low, self.high)
