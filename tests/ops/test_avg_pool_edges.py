"""Averages of infinities, NaN and nothing; what is refused, and in which words."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch

from declarations.avg_pool import avg_pool
from harness.compare import require_same, require_same_but_payload
from harness.engines import engines, running
from harness.layouts import layouts
from switchgrad import geometry, nn, ops
from switchgrad.errors import GeometryError

INF, NAN = math.inf, math.nan
ENGINES = engines(avg_pool(2))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_infinities_and_nan_stay_in_their_windows(engine: str, dtype: torch.dtype) -> None:
    row = [INF, 1.0, NAN, 2.0, INF, -INF, -INF, 3.0, 1.0, 3.0]
    wanted = [INF, NAN, NAN, -INF, 2.0]
    for rows, columns in product((1, 2), (1, 9)):
        x = torch.tensor([row * columns] * rows, dtype=dtype).expand(2, 3, rows, -1)
        for first in layouts(x.contiguous()).values():
            with running(engine):
                got = ops.avg_pool2d(first, (rows, 2))
            expected = torch.tensor(wanted * columns, dtype=dtype).expand(2, 3, 1, -1)
            require_same_but_payload(got, expected, f"{rows} rows")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 1, "padding": 1},
        {"kernel_size": 4, "stride": 4},
        {"kernel_size": 8},
    ],
)
def test_no_zero_is_negative(engine: str, arguments: dict[str, Any]) -> None:
    zeros = torch.full((2, 3, 8, 8), -0.0, requires_grad=True)
    for x in layouts(zeros.detach()).values():
        x.requires_grad_()
        with running(engine):
            y = ops.avg_pool2d(x, **arguments)
            (gradient,) = torch.autograd.grad(y, x, torch.full_like(y, -0.0))
        require_same(y.detach(), torch.zeros(y.shape), "averages of -0")
        require_same(gradient, torch.zeros(x.shape), "gradient of -0")


def test_large_halves_do_not_overflow_on_the_way() -> None:
    x = torch.full((1, 1, 4, 4), 60000.0, dtype=torch.float16)
    assert ops.avg_pool2d(x, 4).item() == 60000.0
    assert ops.sum_pool2d(x, 2).isinf().all()


def test_a_window_without_a_cell_gives_zero_and_takes_no_gradient() -> None:
    x = torch.ones(1, 1, 2, requires_grad=True)
    for include in (True, False):
        y = ops.avg_pool1d(x, 2, 1, padding=5, dilation=5, count_include_pad=include)
        assert y.tolist()[0][0][2:5] == [0.0, 0.0, 0.0]
        assert torch.autograd.grad(y[..., 2:5].sum(), x)[0].abs().sum() == 0


def test_ceil_mode_counts_no_cell_beyond_the_padding() -> None:
    x = torch.ones(1, 1, 5)
    assert ops.avg_pool1d(x, 4, 3, padding=1, ceil_mode=True).tolist() == [[[0.75, 0.75]]]
    assert ops.avg_pool1d(torch.ones(1, 1, 6), 4, 3, padding=1, ceil_mode=True).tolist() == [[[0.75, 1.0, 0.5]]]


REFUSED = {
    "integers": (lambda: ops.avg_pool2d(torch.ones(1, 4, 4, dtype=torch.int64), 2), "dtype torch.int64; avg_pool2d"),
    "axes": (lambda: ops.avg_pool2d(torch.ones(4, 4), 2), "avg_pool2d takes an input of 3 or 4 axes"),
    "no channels": (lambda: ops.sum_pool1d(torch.ones(1, 0, 4), 2), "an axis without cells"),
    "divisor": (lambda: ops.avg_pool2d(torch.ones(1, 4, 4), 2, divisor_override=0), "divisor_override is 0"),
    "divisor of a layer": (lambda: nn.AvgPool2d(2, divisor_override=0), "divisor_override is 0"),
    "window": (lambda: ops.avg_pool2d(torch.ones(1, 4, 4), 5), "spans 5 cells along spatial axis 0"),
    "padding": (lambda: ops.avg_pool1d(torch.ones(1, 4), 2, padding=2), "reaches the window's span of 2"),
    "output size": (lambda: ops.adaptive_avg_pool2d(torch.ones(1, 4, 4), (2, 0)), r"output_size is \(2, 0\)"),
    "output sizes": (lambda: ops.adaptive_max_pool1d(torch.ones(1, 4), (2, 2)), r"output_size is \(2, 2\)"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("width", [512, 514])  # rows of whole pieces of 16 bytes, and others
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_too_large_for_the_caches(engine: str, width: int, dtype: torch.dtype) -> None:
    """From 8 MiB of averages on, both layouts are written past the caches where they can be."""
    x = torch.arange(2 * 32 * 258 * width).remainder_(61).sub_(30).reshape(2, 32, 258, width).to(dtype)
    if dtype.itemsize == 2:
        x = torch.cat([x, x.flip(0)])
    wanted = (x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 4
    assert wanted.nbytes >= 1 << 23
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with running(engine):
            got = ops.avg_pool2d(x.contiguous(memory_format=memory_format), 2)
        require_same(got, wanted, str(memory_format))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(GeometryError, match=words):
        call()


def test_kernels_refuse_in_the_same_words() -> None:
    window = geometry.window(1, 2).numbers
    with pytest.raises(RuntimeError, match="takes float64, float32, float16 or bfloat16"):
        torch.ops.switchgrad.avg_pool(torch.ones(1, 4, dtype=torch.int32), window, True, 0.0)
    with pytest.raises(RuntimeError, match="these windows over this input do not give"):
        torch.ops.switchgrad.avg_pool_spread(torch.ones(1, 4), [4], window, True, 0.0, False)
    with pytest.raises(RuntimeError, match="output_size has an entry of 0"):
        torch.ops.switchgrad.adaptive_avg_pool(torch.ones(1, 4), [0])
