"""Pooling in other bases, held to transforms written as sums."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import composed
from composed import Composed, case
from switchgrad import nn, ops
from switchgrad.errors import GeometryError, ModelError

SPECTRAL = {1: ops.spectral_pool1d, 2: ops.spectral_pool2d, 3: ops.spectral_pool3d}
MAGNITUDE = {1: ops.dft_magnitude_pool1d, 2: ops.dft_magnitude_pool2d, 3: ops.dft_magnitude_pool3d}
BANDS = {1: ops.wavelet_bands1d, 2: ops.wavelet_bands2d, 3: ops.wavelet_bands3d}
LOW = {1: ops.wavelet_pool1d, 2: ops.wavelet_pool2d, 3: ops.wavelet_pool3d}
LDW = {1: ops.ldw_pool1d, 2: ops.ldw_pool2d, 3: ops.ldw_pool3d}


def wave(turns: float) -> complex:
    return cmath.exp(2j * math.pi * turns)


def transform(x: np.ndarray, axis: int, frequencies: list[int]) -> np.ndarray:
    """The Fourier coefficients at some frequencies along an axis, as sums divided by the number of cells."""
    size = x.shape[axis]
    return np.stack([sum(x.take(h, axis) * wave(-f * h / size) for h in range(size)) / size for f in frequencies], axis)


def spectral_loops(x: np.ndarray, output_size: Any, norm: str = "forward") -> np.ndarray:
    dims = x.ndim - 2
    places = output_size if isinstance(output_size, tuple) else (output_size,) * dims
    y = x.astype(complex)
    for axis, p in enumerate(places, 2):
        size = x.shape[axis]
        band = list(range(-(p // 2), p // 2 + 1))
        spectrum = transform(y, axis, band)
        weights = [0.5 if 2 * abs(f) == p else 1.0 for f in band]  # both ends of an even band are one frequency
        y = np.stack(
            [
                sum(
                    w * spectrum.take(i, axis) * wave(f * place / p)
                    for i, (f, w) in enumerate(zip(band, weights, strict=True))
                )
                for place in range(p)
            ],
            axis,
        )
        if norm == "ortho":
            y = y * math.sqrt(size / p)
    assert np.abs(y.imag).max() < 1e-9
    return y.real


def magnitude_loops(x: np.ndarray, output_size: Any) -> np.ndarray:
    dims = x.ndim - 2
    places = output_size if isinstance(output_size, tuple) else (output_size,) * dims
    y = x.astype(complex)
    for axis, p in enumerate(places, 2):
        y = transform(y, axis, list(range(p)))
    return np.abs(y)


SIZES = {
    1: (
        case((2, 2, 7), output_size=4),
        case((1, 2, 8), output_size=5),
        case((1, 1, 8), output_size=4),
        case((1, 1, 6), output_size=6),
    ),
    2: (
        case((2, 2, 6, 5), output_size=(4, 3)),
        case((1, 2, 7, 8), output_size=(3, 6)),
        case((1, 1, 5, 6), output_size=2),
        case((1, 2, 4, 4), output_size=4),
        case((1, 1, 3, 4), output_size=1),
    ),
    3: (case((1, 2, 4, 5, 6), output_size=(2, 3, 4)),),
}


def spectral(dims: int, norm: str = "forward") -> Composed:
    layer = {1: nn.SpectralPool1d, 2: nn.SpectralPool2d, 3: nn.SpectralPool3d}[dims]
    return Composed(
        f"spectral_pool{dims}d, {norm}",
        lambda x, **a: SPECTRAL[dims](x, **a, norm=norm),
        lambda x, **a: spectral_loops(x, **a, norm=norm),
        SIZES[dims],
        layer=lambda c: layer(**c.arguments, norm=norm),
        precision=64,
    )


def magnitude(dims: int) -> Composed:
    layer = {1: nn.DFTMagnitudePool1d, 2: nn.DFTMagnitudePool2d, 3: nn.DFTMagnitudePool3d}[dims]
    return Composed(
        f"dft_magnitude_pool{dims}d",
        MAGNITUDE[dims],
        magnitude_loops,
        SIZES[dims],
        layer=lambda c: layer(**c.arguments),
        precision=64,
    )


test_fourier = composed.tests(
    *(spectral(d) for d in (1, 2, 3)), spectral(2, "ortho"), *(magnitude(d) for d in (1, 2, 3))
)


def _cropped(x: Tensor, output_size: Any, both: float, shift: int = 0) -> Tensor:
    """Spectral pooling along the last axis only that treats the Nyquist frequency otherwise."""
    places = output_size if isinstance(output_size, tuple) else (output_size,) * 2
    y = x.double()
    for axis, p in zip((-2, -1), places, strict=True):
        spectrum = torch.fft.fft(y, dim=axis, norm="forward")
        size = spectrum.shape[axis]
        kept = [f % size for f in range(-((p - 1) // 2), (p - 1) // 2 + 1)]
        z = torch.zeros_like(spectrum.narrow(axis, 0, p))
        for f in kept:
            place = (f if f <= size // 2 else f - size) % p
            z.narrow(axis, (place + shift) % p, 1).copy_(spectrum.narrow(axis, f, 1))
        if p % 2 == 0 and p < size:
            z.narrow(axis, p // 2, 1).copy_(both * spectrum.narrow(axis, p // 2, 1))
        elif p % 2 == 0:
            z.narrow(axis, p // 2, 1).copy_(spectrum.narrow(axis, p // 2, 1))
        y = torch.fft.ifft(z, dim=axis, norm="forward").real
    return y.to(x.dtype)


test_spectral_mutants = composed.mutant_tests(
    spectral(2),
    {
        "no Nyquist frequency": lambda x, output_size: _cropped(x, output_size, 0.0),
        "Nyquist frequency twice": lambda x, output_size: _cropped(x, output_size, 2.0),
        "one frequency off": lambda x, output_size: _cropped(x, output_size, 1.0, 1),
        "unitary": lambda x, output_size: ops.spectral_pool2d(x, output_size, "ortho"),
        "bilinear": lambda x, output_size: torch.nn.functional.interpolate(x, output_size, mode="bilinear"),
        "average": lambda x, output_size: torch.nn.functional.adaptive_avg_pool2d(x, output_size),
    },
)


def _spectrum(x: Tensor, output_size: Any, norm: str = "forward", turn: Any = ()) -> Tensor:
    p, q = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    return torch.fft.fft2(x.double(), norm=norm).flip(turn)[..., :p, :q]


test_magnitude_mutants = composed.mutant_tests(
    magnitude(2),
    {
        "sums": lambda x, output_size: _spectrum(x, output_size, "backward").abs().to(x.dtype),
        "highest frequencies": lambda x, output_size: _spectrum(x, output_size, turn=(-1, -2)).abs().to(x.dtype),
        "real parts": lambda x, output_size: _spectrum(x, output_size).real.to(x.dtype),
        "powers": lambda x, output_size: _spectrum(x, output_size).abs().square().to(x.dtype),
    },
)


@pytest.mark.parametrize(("size", "places"), [(8, 5), (8, 4), (7, 4), (7, 3), (6, 6), (5, 1), (6, 2)])
def test_backward_is_the_exact_adjoint(size: int, places: int) -> None:
    """The unitary transform's pooling has orthonormal rows (all but the Nyquist row, which lost half of its energy)."""
    eye = torch.eye(size, dtype=torch.float64)[:, None].requires_grad_()
    matrix = ops.spectral_pool1d(eye, places, "ortho")[:, 0].T
    gram = (matrix @ matrix.T).detach()
    (backward,) = torch.autograd.grad(
        ops.spectral_pool1d(eye, places, "ortho"), eye, torch.ones(size, 1, places).double()
    )
    torch.testing.assert_close(backward[:, 0].sum(0), size * matrix.detach().sum(0))
    if places % 2 or places == size:
        torch.testing.assert_close(gram, torch.eye(places, dtype=torch.float64))
    else:
        alternating = torch.tensor([(-1.0) ** i for i in range(places)], dtype=torch.float64) / places**0.5
        torch.testing.assert_close(gram, torch.eye(places, dtype=torch.float64) - alternating.outer(alternating) / 2)


def test_pooling_twice_is_pooling_once() -> None:
    x = torch.rand(1, 2, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(ops.spectral_pool2d(ops.spectral_pool2d(x, 9), 5), ops.spectral_pool2d(x, 5))
    torch.testing.assert_close(ops.spectral_pool2d(x, 7).mean((-1, -2)), x.mean((-1, -2)))


def test_magnitudes_do_not_know_the_place() -> None:
    x = torch.rand(1, 2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(ops.dft_magnitude_pool2d(x.roll((2, 3), (-2, -1)), 4), ops.dft_magnitude_pool2d(x, 4))
    assert not torch.allclose(ops.dft_magnitude_pool2d(x.flip(-1) * x, 4), ops.dft_magnitude_pool2d(x, 4))
    flat = torch.zeros(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    ops.dft_magnitude_pool2d(flat, 2).sum().backward()
    assert not flat.grad.any()


# ---- wavelets ----------------------------------------------------------------------------------------------------


def filtered(x: np.ndarray, taps: np.ndarray, axis: int) -> np.ndarray:
    size, count = x.shape[axis], len(taps)
    places = []
    for p in range(math.ceil(size / 2)):
        cells = [min(max(2 * p + k - (count - 2) // 2, 0), size - 1) for k in range(count)]
        places.append(sum(tap * x.take(at, axis) for tap, at in zip(taps, cells, strict=True)))
    return np.stack(places, axis)


def bands_loops(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    bands = [x]
    for axis in range(2, x.ndim):
        bands = [filtered(band, taps, axis) for band in bands for taps in (low, high)]
    return np.stack(bands, 2)


def ldw_loops(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    bands = bands_loops(x, low, high)
    out = np.zeros((*x.shape[:2], *bands.shape[3:]))
    for n, c in np.ndindex(*x.shape[:2]):
        energy = [float(np.mean(band**2)) for band in bands[n, c]]
        out[n, c] = sum(e / sum(energy) * band for e, band in zip(energy, bands[n, c], strict=True))
    return out


SHAPES = {1: (2, 2, 7), 2: (2, 2, 5, 6), 3: (1, 2, 4, 3, 4)}


def wavelet(name: str, functions: Any, dims: int, reference: Any, count: int) -> Composed:
    return Composed(
        f"{name}{dims}d",
        lambda *given: functions[dims](*given),
        reference,
        tuple(case(SHAPES[dims], *[(taps,)] * count) for taps in (2, 4)),
        keeps_layout=name != "wavelet_bands",
        precision=64,
    )


WAVELETS = [
    wavelet(name, functions, dims, reference, count)
    for name, functions, reference, count in (
        ("wavelet_bands", BANDS, bands_loops, 2),
        ("wavelet_pool", LOW, lambda x, low: bands_loops(x, low, low)[:, :, 0], 1),
        ("ldw_pool", LDW, ldw_loops, 2),
    )
    for dims in (1, 2, 3)
]
test_wavelets = composed.tests(*WAVELETS)
test_band_mutants = composed.mutant_tests(
    WAVELETS[1],
    {
        "filters exchanged": lambda x, low, high: ops.wavelet_bands2d(x, high, low),
        "convolution": lambda x, low, high: ops.wavelet_bands2d(x, low.flip(0), high.flip(0)),
        "LH and HL exchanged": lambda x, low, high: ops.wavelet_bands2d(x, low, high)[:, :, [0, 2, 1, 3]],
    },
)
test_ldw_mutants = composed.mutant_tests(
    WAVELETS[7],
    {
        "low band": lambda x, low, high: ops.wavelet_pool2d(x, low),
        "mean of the bands": lambda x, low, high: ops.wavelet_bands2d(x, low, high).mean(2),
        "shares of all channels": lambda x, low, high: (
            (b := ops.wavelet_bands2d(x, low, high))
            .mul((e := b.square().mean((1, 3, 4), keepdim=True)) / e.sum(2, keepdim=True))
            .sum(2)
        ),
    },
)


def test_haar_loses_nothing() -> None:
    x = torch.rand(1, 3, 6, 8, dtype=torch.float64)
    bands = ops.wavelet_bands2d(x)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())
    torch.testing.assert_close(ops.wavelet_pool2d(x), 2 * torch.nn.functional.avg_pool2d(x, 2))
    ll, lh, hl, hh = bands.unbind(2)
    torch.testing.assert_close((ll + lh + hl + hh) / 2, x[..., ::2, ::2])
    torch.testing.assert_close((ll - lh - hl + hh) / 2, x[..., 1::2, 1::2])
    assert not ops.ldw_pool2d(torch.zeros(1, 2, 4, 4), torch.ones(2), torch.ones(2)).any()


def test_learned_wavelets_stay_orthogonal() -> None:
    layer = nn.LDWPool2d(taps=4)
    assert layer.filter_loss().item() == pytest.approx(0, abs=1e-12)
    layer(torch.rand(2, 3, 8, 8)).square().sum().backward()
    assert layer.low.grad.any()
    assert layer.high.grad.any()
    root = 3**0.5
    with torch.no_grad():  # Daubechies' filter of four taps is orthogonal as well
        layer.low.copy_(torch.tensor([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5))
        layer.high.copy_(layer.low.flip(0) * torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert layer.filter_loss().item() == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        layer.high.copy_(layer.low)
    assert layer.filter_loss().item() > 1
    assert repr(layer) == "LDWPool2d(taps=4)"


X = torch.rand(1, 2, 6, 6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.spectral_pool2d(X, 7), "only takes frequencies away"),
        (lambda: ops.spectral_pool2d(X, 0), "output_size is 0"),
        (lambda: ops.spectral_pool2d(X, 3, norm="backward"), "ortho"),
        (lambda: ops.spectral_pool2d(X.int(), 3), "dtype torch.int32"),
        (lambda: ops.dft_magnitude_pool2d(X, (3, 9)), "more than the 6 cells"),
        (lambda: ops.wavelet_pool2d(X, torch.rand(3)), "even K"),
        (lambda: ops.wavelet_bands2d(X, torch.rand(4)), "give as many"),
        (lambda: ops.wavelet_pool1d(X), "takes an input of 2 or 3 axes"),
        (lambda: nn.LDWPool2d(3), "even number"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises((GeometryError, ModelError), match=sentence):
        call()
