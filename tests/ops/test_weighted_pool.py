"""Distance-weighted averages and blurred subsampling against loops, their limits, derivatives and refusals."""

from __future__ import annotations

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


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("given", [False, True])
def test_weighted_averages_equal_the_loops(window: dict[str, Any], given: bool) -> None:
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    along = loops.axes((6, 7), **window)
    shape, spread = tuple(a.kernel for a in along), [a.dilation for a in along]
    weights = torch.rand(shape, dtype=torch.float64)
    distance = [[math.hypot(*((i - (k - 1) / 2) * d for i, k, d in zip(at, shape, spread, strict=True)))
                 for at in ((r, s) for s in range(shape[1]))] for r in range(shape[0])]  # fmt: skip
    w = weights if given else torch.exp(-(torch.tensor(distance, dtype=torch.float64) ** 2) / (2 * 0.7**2))
    wanted = []
    for plane in x.flatten(2).flatten(0, 1):
        for cells in loops.windows(along):
            total = sum(float(w.flatten()[offset]) for offset, _ in cells)
            wanted.append(sum(float(w.flatten()[offset] * plane[at]) for offset, at in cells) / total)
    got = ops.weighted_avg_pool2d(x, **window, **({"weights": weights} if given else {"sigma": 0.7}))
    torch.testing.assert_close(got.flatten(), torch.tensor(wanted, dtype=torch.float64))


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
@pytest.mark.parametrize(("size", "stride"), [(1, 2), (2, 2), (3, 2), (4, 1), (5, (2, 3))])
def test_blur_is_a_binomial_mean_of_the_padded_map(mode: Any, size: int, stride: Any) -> None:
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    before, after = (size - 1) // 2, size // 2
    row = [math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)]
    padded = torch.nn.functional.pad(x, (before, after) * 2, "constant" if mode == "zeros" else mode)
    steps = (stride, stride) if isinstance(stride, int) else stride
    wanted = sum(
        row[r] * row[s] * padded[..., r : r + 7, s : s + 8][..., :: steps[0], :: steps[1]]
        for r in range(size)
        for s in range(size)
    )
    got = ops.blur_pool2d(x, size, stride, mode)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(ops.blur_pool2d(x[1], size, stride, mode), wanted[1])
    torch.testing.assert_close(nn.BlurPool2d(size, stride, mode)(x), wanted)


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
        (lambda x: ops.blur_pool2d(x, 0), "kernel_size is 0"),
        (lambda x: ops.blur_pool2d(x, 9), "cannot be reflected over 4"),
        (lambda x: ops.blur_pool2d(x, 3, 2, "round"), 'padding_mode is "round"'),
    ],
)
def test_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        call(torch.ones(1, 4, 4))
