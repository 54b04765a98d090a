"""Distance-weighted averages and blurred subsampling against loops, their limits, derivatives and refusals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import loops
from switchgrad import nn, ops
from switchgrad.errors import GeometryError

WINDOWS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3},
    {"kernel_size": (2, 3), "stride": 1, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": ((0, 2), (1, 0))},
    {"kernel_size": 2, "dilation": 2, "stride": 3, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": "same"},
)


ALONG: dict[int, tuple[tuple[int, ...], tuple[dict[str, Any], ...]]] = {
    1: ((9,), ({"kernel_size": 3}, {"kernel_size": 4, "stride": 3, "padding": ((2, 1),), "ceil_mode": True})),
    2: ((6, 7), WINDOWS),
    3: ((4, 5, 6), ({"kernel_size": 2}, {"kernel_size": (1, 3, 2), "stride": 2, "padding": (0, 1, 1)})),
}
WEIGHTED = {1: ops.weighted_avg_pool1d, 2: ops.weighted_avg_pool2d, 3: ops.weighted_avg_pool3d}
BLUR = {1: ops.blur_pool1d, 2: ops.blur_pool2d, 3: ops.blur_pool3d}


@pytest.mark.parametrize(("dims", "window"), [(d, w) for d, (_, windows) in ALONG.items() for w in windows])
@pytest.mark.parametrize("given", [False, True])
def test_weighted_averages_equal_the_loops(dims: int, window: dict[str, Any], given: bool) -> None:
    size = ALONG[dims][0]
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    along = loops.axes(size, **window)
    shape = tuple(a.kernel for a in along)
    weights = torch.rand(shape, dtype=torch.float64)
    distance = torch.zeros(shape, dtype=torch.float64)
    for at in itertools.product(*map(range, shape)):
        distance[at] = math.hypot(*((i - (a.kernel - 1) / 2) * a.dilation for i, a in zip(at, along, strict=True)))
    w = weights if given else torch.exp(-(distance**2) / (2 * 0.7**2))
    wanted = []
    for plane in x.flatten(2).flatten(0, 1):
        for cells in loops.windows(along):
            total = sum(float(w.flatten()[offset]) for offset, _ in cells)
            wanted.append(sum(float(w.flatten()[offset] * plane[at]) for offset, at in cells) / total)
    options: dict[str, Any] = {"weights": weights} if given else {"sigma": 0.7}
    got = WEIGHTED[dims](x, **window, **options)
    torch.testing.assert_close(got.flatten(), torch.tensor(wanted, dtype=torch.float64))
    torch.testing.assert_close(WEIGHTED[dims](x[1], **window, **options), got[1])


def test_limits_and_derivatives_of_weighted_averages() -> None:
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    flat = ops.weighted_avg_pool2d(x, 3, 2, 1, sigma=1e6)
    torch.testing.assert_close(flat, ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
    torch.testing.assert_close(ops.weighted_avg_pool2d(x, 3, 1, sigma=0.05), x[..., 1:-1, 1:-1])
    weights = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    function = lambda x, w: ops.weighted_avg_pool2d(x, (2, 3), 2, weights=w)  # noqa: E731
    assert gradcheck(function, (x, weights))
    assert gradgradcheck(function, (x, weights))
    assert nn.WeightedAvgPool2d(3, sigma=0.5)(x[0].float()).shape == (2, 1, 2)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "zeros"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("dims", "stride"), [(1, 2), (1, 3), (2, 1), (2, 2), (2, (2, 3)), (3, 2), (3, (1, 2, 3))])
def test_blur_is_a_binomial_mean_of_the_padded_map(dims: int, stride: Any, size: int, mode: Any) -> None:
    cells = (7, 8, 6)[:dims]
    x = torch.randn(2, 3, *cells, dtype=torch.float64)
    before, after = (size - 1) // 2, size // 2
    row = [math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)]
    padded = torch.nn.functional.pad(x, (before, after) * dims, "constant" if mode == "zeros" else mode)
    steps = (stride,) * dims if isinstance(stride, int) else stride
    wanted = torch.zeros(())
    for at in itertools.product(range(size), repeat=dims):
        taken = tuple(slice(i, i + h, s) for i, h, s in zip(at, cells, steps, strict=True))
        wanted = wanted + math.prod(row[i] for i in at) * padded[(..., *taken)]
    got = BLUR[dims](x, size, stride, mode)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(BLUR[dims](x[1], size, stride, mode), wanted[1])
    layer = {1: nn.BlurPool1d, 2: nn.BlurPool2d, 3: nn.BlurPool3d}[dims]
    torch.testing.assert_close(layer(size, stride, mode)(x), wanted)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("length", [5, 6, 7, 11, 16, 31])
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_the_edges_of_long_and_short_signals(length: int, size: int, stride: int, mode: Any) -> None:
    """Edges are blurred by themselves where there is room: the same numbers and the same gradient."""
    reach = size // 2
    x = torch.randn(1, 2, length, dtype=torch.float64, requires_grad=True)
    row = torch.tensor([math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)], dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (reach, reach), mode)
    wanted = (padded.unfold(-1, size, stride) * row).sum(-1)
    got = ops.blur_pool1d(x, size, stride, mode)
    torch.testing.assert_close(got, wanted)
    grad = torch.randn_like(got)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, grad)[0] for y in (got, wanted)))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "zeros"])
@pytest.mark.parametrize(("dims", "size"), [(1, 5), (2, 3), (2, 4), (3, 3)])
def test_derivatives_of_blur(dims: int, size: int, mode: Any) -> None:
    x = torch.randn(1, 2, *(3, 4, 3)[-dims:], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: BLUR[dims](x, size, 2, mode), x)
    assert gradgradcheck(lambda x: BLUR[dims](x, size, 2, mode), x)
    tangent = torch.randn_like(x)
    got = torch.func.jvp(lambda x: BLUR[dims](x, size, 2, mode), (x.detach(),), (tangent,))[1]
    torch.testing.assert_close(got, BLUR[dims](tangent, size, 2, mode))


@pytest.mark.parametrize("dims", [1, 3])
def test_derivatives_of_weighted_averages(dims: int) -> None:
    x = torch.randn(2, 2, *(4, 3, 5)[:dims], dtype=torch.float64, requires_grad=True)
    weights = torch.rand((2,) * dims, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, w: WEIGHTED[dims](x, 2, 1, 1, weights=w), (x, weights))
    assert gradgradcheck(lambda x, w: WEIGHTED[dims](x, 2, 1, 1, weights=w), (x, weights), fast_mode=True)
    layer = {1: nn.WeightedAvgPool1d, 3: nn.WeightedAvgPool3d}[dims](2, sigma=0.5)
    torch.testing.assert_close(layer(x), WEIGHTED[dims](x, 2, sigma=0.5))


def test_blur_keeps_constants_layout_and_differentiates() -> None:
    assert torch.allclose(ops.blur_pool2d(torch.ones(1, 2, 9, 9), 5), torch.ones(1, 2, 5, 5))
    x = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    assert ops.blur_pool2d(x).is_contiguous(memory_format=torch.channels_last)
    assert gradcheck(ops.blur_pool2d, torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ops.weighted_avg_pool2d(x, 2), "either sigma"),
        (lambda x: ops.weighted_avg_pool2d(x, 2, sigma=1, weights=torch.ones(2, 2)), "either sigma"),
        (lambda x: ops.weighted_avg_pool2d(x, 2, sigma=0), "sigma is 0"),
        (lambda x: ops.weighted_avg_pool2d(x, 2, weights=torch.ones(3, 2)), r"weights have shape \(3, 2\)"),
        (
            lambda x: ops.weighted_avg_pool2d(x.int(), 2, sigma=1),
            "dtype torch.int32; weighted_avg_pool2d",
        ),
        (lambda x: ops.blur_pool2d(x.int()), "dtype torch.int32; blur_pool2d takes float64"),
        (lambda x: ops.blur_pool2d(x, 0), "kernel_size is 0"),
        (lambda x: ops.blur_pool2d(x, 9), "cannot be reflected over 4"),
        (lambda x: ops.blur_pool2d(x, 3, 2, "round"), 'padding_mode is "round"'),
    ],
)
def test_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        call(torch.ones(1, 4, 4))
