"""Pooling in other bases: Fourier's and wavelets."""

from switchgrad.ops.spectral.fourier import (
    dft_magnitude_pool1d,
    dft_magnitude_pool2d,
    dft_magnitude_pool3d,
    spectral_pool1d,
    spectral_pool2d,
    spectral_pool3d,
)
from switchgrad.ops.spectral.wavelet import (
    ldw_pool1d,
    ldw_pool2d,
    ldw_pool3d,
    wavelet_bands1d,
    wavelet_bands2d,
    wavelet_bands3d,
    wavelet_pool1d,
    wavelet_pool2d,
    wavelet_pool3d,
)

__all__ = [
    "dft_magnitude_pool1d",
    "dft_magnitude_pool2d",
    "dft_magnitude_pool3d",
    "ldw_pool1d",
    "ldw_pool2d",
    "ldw_pool3d",
    "spectral_pool1d",
    "spectral_pool2d",
    "spectral_pool3d",
    "wavelet_bands1d",
    "wavelet_bands2d",
    "wavelet_bands3d",
    "wavelet_pool1d",
    "wavelet_pool2d",
    "wavelet_pool3d",
]
