"""Pooling in the Fourier domain: spectral pooling and the magnitudes of the lowest frequencies."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.windows import check_floats, per_axis, wide

Norm: TypeAlias = Literal["forward", "ortho"]


def spectral_pool2d(
    input: Tensor,
    output_size: IntOrTuple,
    norm: Norm = "forward",
) -> Tensor:
    r"""The lowest frequencies of each map, back in space: as much of the picture as fits in ``output_size``.

    Shapes: ``input`` is (N, C, H, W) or (C, H, W), the result has ``output_size`` (at most H, W) as spatial axes;
    float64, float32, float16, bfloat16 (these two transformed in float32); the layout is the input's.

    .. math:: y = F_{P \times Q}^{-1} \, \text{crop} \, F_{H \times W} x, \quad
        \text{crop: the frequencies } |f| < P / 2, \text{ and } (X_{P/2} + X_{-P/2}) / 2 \text{ at } P / 2 \text{ for
        even } P

    The two frequencies that fall together at the Nyquist frequency of an even size are averaged, along each axis: so
    the result is real (along one axis it is the paper's real part), sizes may be odd or even, and a map pooled to its
    own size stays. ``norm`` "forward" keeps constants as they are; "ortho" is the unitary transform of the paper, whose
    values grow by :math:`\sqrt{HW / PQ}`. NaN or infinity makes its map NaN.

    Backward: the exact adjoint, which puts the gradient's spectrum into the middle of an empty one. Raises
    `GeometryError` for sizes that do not fit.

    Rippel, Snoek, Adams: Spectral representations for convolutional neural networks (2015), section 3.

    >>> wave = torch.tensor([[[1.0, 2.0, 3.0, 2.0]]])                       # a mean of 2 and one turn of a cosine
    >>> spectral_pool2d(wave, (1, 3))
    tensor([[[1.0000, 2.5000, 2.5000]]])
    """
    return _spectral_pool(2, input, output_size, norm)


def spectral_pool1d(
    input: Tensor,
    output_size: IntOrTuple,
    norm: Norm = "forward",
) -> Tensor:
    """The lowest frequencies of each signal, back in time: `spectral_pool2d` along one axis.

    >>> spectral_pool1d(torch.ones(1, 8), 3)
    tensor([[1., 1., 1.]])
    """
    return _spectral_pool(1, input, output_size, norm)


def spectral_pool3d(
    input: Tensor,
    output_size: IntOrTuple,
    norm: Norm = "forward",
) -> Tensor:
    """The lowest frequencies of each volume, back in space: `spectral_pool2d` along three axes.

    >>> spectral_pool3d(torch.rand(1, 5, 6, 7), (3, 4, 5)).shape
    torch.Size([1, 3, 4, 5])
    """
    return _spectral_pool(3, input, output_size, norm)


def dft_magnitude_pool2d(
    input: Tensor,
    output_size: IntOrTuple,
) -> Tensor:
    r"""The magnitudes of each map's lowest frequencies: shape without place.

    Shapes: ``input`` is (N, C, H, W) or (C, H, W), the result has ``output_size`` (at most H, W) as spatial axes;
    float64, float32, float16, bfloat16 (these two transformed in float32); the layout is the input's.

    .. math:: y_{pq} = \tfrac{1}{HW} \left| \sum_{h,w} x_{hw} e^{-2 \pi i (p h / H + q w / W)} \right|,
        \quad 0 \le p < P, \; 0 \le q < Q

    The first value is the absolute mean. By the shift theorem nothing changes when the map is rolled around. NaN or
    infinity makes its map NaN.

    Backward: through the magnitude (gradient 0 where it is 0) and the transform's adjoint. Raises `GeometryError` for
    sizes that do not fit.

    Ryu, Yang, Lim: DFT-based transformation invariant pooling layer for visual classification (2018).

    >>> x = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
    >>> dft_magnitude_pool2d(x, 2).tolist() == dft_magnitude_pool2d(x.roll(1, -1), 2).tolist()
    True
    """
    return _dft_magnitude_pool(2, input, output_size)


def dft_magnitude_pool1d(
    input: Tensor,
    output_size: IntOrTuple,
) -> Tensor:
    """The magnitudes of each signal's lowest frequencies: `dft_magnitude_pool2d` along one axis.

    >>> dft_magnitude_pool1d(torch.tensor([[3.0, -3.0]]), 2)
    tensor([[0., 3.]])
    """
    return _dft_magnitude_pool(1, input, output_size)


def dft_magnitude_pool3d(
    input: Tensor,
    output_size: IntOrTuple,
) -> Tensor:
    """The magnitudes of each volume's lowest frequencies: `dft_magnitude_pool2d` along three axes.

    >>> dft_magnitude_pool3d(torch.ones(1, 4, 4, 4), 1).item()
    1.0
    """
    return _dft_magnitude_pool(3, input, output_size)


def _sizes(name: str, dims: int, input: Tensor, output_size: IntOrTuple) -> tuple[int, ...]:
    check_floats(f"{name}{dims}d", input, dims)
    places = per_axis("output_size", output_size, dims)
    for axis, (h, p) in enumerate(zip(input.shape[-dims:], places, strict=True)):
        if p > h:
            raise GeometryError(
                f"output_size {p} along spatial axis {axis} is more than the {h} cells of the input; spectral pooling "
                "only takes frequencies away"
            )
    return places


def _spectral_pool(dims: int, input: Tensor, output_size: IntOrTuple, norm: Norm) -> Tensor:
    places = _sizes("spectral_pool", dims, input, output_size)
    if norm not in ("forward", "ortho"):
        raise GeometryError(f'norm is "{norm}"; give "forward" or "ortho"')
    pooled = _never_empty(wide(input))
    for axis, (h, p) in enumerate(zip(input.shape[-dims:], places, strict=True)):
        if p < h:
            # The inverse transform of real numbers takes the real part at the Nyquist frequency: the average of both.
            spectrum = torch.fft.rfft(pooled, dim=axis - dims, norm=norm).narrow(axis - dims, 0, p // 2 + 1)
            pooled = torch.fft.irfft(spectrum, p, dim=axis - dims, norm=norm)
    return in_layout_of(input, pooled[: input.shape[0]].to(input.dtype))


def _dft_magnitude_pool(dims: int, input: Tensor, output_size: IntOrTuple) -> Tensor:
    places = _sizes("dft_magnitude_pool", dims, input, output_size)
    spectrum = torch.fft.fftn(_never_empty(wide(input)), dim=tuple(range(-dims, 0)), norm="forward")
    lowest = spectrum[(..., *[slice(p) for p in places])]
    return in_layout_of(input, lowest[: input.shape[0]].abs().to(input.dtype))


def _never_empty(x: Tensor) -> Tensor:
    """An empty batch gets one element, which the caller takes away again: the Fourier transforms refuse nothing."""
    return x if x.numel() else torch.cat([x, x.new_zeros((1, *x.shape[1:]))])
