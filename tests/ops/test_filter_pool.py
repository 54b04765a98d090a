"""Filtered windows: the kernels held to the reference and the adjoint to the sums, in every layout and dtype."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from harness.engines import poisoned, threads
from harness.samples import seeded
from switchgrad import kernels
from switchgrad.kernels.schema import REFERENCES
from switchgrad.ops import filter_pool as filter_pool  # its operators are registered when it is opened

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# kernel_size, stride, before, dilation, places, border; the size of the input
CASES: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {
    "signal": (([4], [3], [2], [1], [12], 0), (35,)),
    "signal, hops": (([2], [5], [0], [1], [7], 0), (33,)),
    "blur": (([3, 3], [2, 2], [1, 1], [1, 1], [6, 35], 2), (11, 70)),
    "even blur": (([4, 4], [2, 1], [1, 1], [1, 1], [5, 9], 2), (9, 9)),
    "replicated far": (([5, 3], [3, 2], [4, 2], [1, 2], [4, 6], 1), (7, 9)),
    "dilated": (([2, 3], [1, 2], [1, 2], [2, 3], [7, 8], 0), (8, 17)),
    "beyond the input": (([2, 2], [2, 2], [1, 1], [3, 1], [5, 5], 0), (5, 6)),
    "volume": (([2, 3, 3], [1, 2, 2], [0, 1, 1], [1, 1, 1], [3, 3, 4], 2), (4, 5, 7)),
    "short rows": (([3, 3], [2, 2], [1, 1], [1, 1], [7, 7], 0), (14, 14)),
    "short rows, folded": (([4, 3], [1, 1], [2, 1], [1, 1], [14, 13], 2), (13, 13)),
    "products, short rows": (([5, 5], [2, 2], [2, 2], [1, 1], [7, 7], 2), (13, 14)),
    "products": (([3, 5], [1, 2], [1, 2], [1, 1], [9, 33], 2), (9, 66)),
    "products, seven": (([7, 7], [2, 2], [3, 3], [1, 1], [5, 9], 2), (9, 17)),
    "products, cells in no window": (([5, 5], [2, 1], [3, 1], [1, 1], [5, 20], 1), (9, 30)),
    "products, apart": (([4, 6], [5, 3], [0, 2], [1, 1], [3, 11], 0), (16, 40)),
    "products, volume": (([2, 3, 4], [1, 2, 1], [0, 1, 1], [1, 2, 1], [3, 3, 6], 0), (4, 7, 7)),
}


def call(name: str, *arguments: Any) -> Tensor:
    return getattr(torch.ops.switchgrad, name)(*arguments)


def laid(x: Tensor, channels_last: bool) -> Tensor:
    if not channels_last or x.dim() == 3:
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def numbers(case: str, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Input, pooled numbers, weights (of which no two axes look alike) and factors (some of them 0)."""
    window, size = CASES[case]
    generator = seeded(case, channels)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64).to(dtype)
    pooled = torch.randn(2, channels, *window[4], generator=generator, dtype=torch.float64).to(dtype)
    weights = torch.rand(window[0], generator=generator, dtype=torch.float64).to(wide)
    if case.startswith("products"):  # of eighths, so that none is rounded: their rows are summed before their columns
        along = [torch.randint(1, 9, (size,), generator=generator) / 8 for size in window[0]]
        weights = torch.cartesian_prod(*along).prod(-1).reshape(window[0]).to(wide)
    factors = torch.rand(window[4], generator=generator, dtype=torch.float64).to(wide)
    factors.view(-1)[::5] = 0
    return x, pooled, weights, factors


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_sums_and_adjoint_are_the_references(case: str, dtype: torch.dtype) -> None:
    (kernel, stride, before, dilation, places, border), size = CASES[case]
    window = (kernel, stride, before, dilation)
    for channels, scaled in ((21, False), (3, True)):
        x, pooled, weights, factors = numbers(case, channels, dtype)
        scale = factors if scaled else None
        up = REFERENCES["filter_pool"](x, weights, scale, *window, places, border)
        down = REFERENCES["filter_pool_spread"](pooled, size, weights, scale, *window, border, False)
        loose = 8 * torch.finfo(dtype).eps
        for isa, count, last in itertools.product(kernels.isas(), (1, 3), (False, True)):
            with kernels.use_isa(isa), threads(count):
                sums = call("filter_pool", laid(x, last), weights, scale, *window, places, border)
                spread = call("filter_pool_spread", pooled, size, weights, scale, *window, border, last)
            for got, wanted in ((sums, up), (spread, down)):
                scale_of = float(wanted.double().abs().max())
                torch.testing.assert_close(got, wanted, rtol=0, atol=loose * scale_of, check_stride=False)
                assert got.stride() == laid(got, last).stride()
            assert torch.equal(sums, up) or dtype != torch.float64 or case.startswith("products")


@pytest.mark.parametrize("case", CASES)
def test_the_bits_depend_on_nothing_but_the_numbers(case: str) -> None:
    (kernel, stride, before, dilation, places, border), size = CASES[case]
    window = (kernel, stride, before, dilation)
    x, pooled, weights, factors = numbers(case, 21, torch.float32)
    seen: list[tuple[Tensor, Tensor]] = []
    for isa, count, byte in itertools.product(kernels.isas(), (1, 2, 3), (0x55, 0xCC)):
        with kernels.use_isa(isa), threads(count), poisoned(byte):
            view = torch.stack([x, x.flip(0)], -1)[..., 0]
            sums = call("filter_pool", view, weights, factors, *window, places, border)
            spread = call("filter_pool_spread", pooled, size, weights, factors, *window, border, False)
        seen.append((sums, spread))
    assert all(torch.equal(a, b) for one in seen[1:] for a, b in zip(one, seen[0], strict=True))


@pytest.mark.parametrize("case", CASES)
def test_spread_is_the_adjoint(case: str) -> None:
    (kernel, stride, before, dilation, places, border), size = CASES[case]
    window = (kernel, stride, before, dilation)
    x, pooled, weights, factors = numbers(case, 3, torch.float64)
    left = (call("filter_pool", x, weights, factors, *window, places, border) * pooled).sum()
    right = (call("filter_pool_spread", pooled, size, weights, factors, *window, border, False) * x).sum()
    torch.testing.assert_close(left, right)


def test_registrations_are_sound() -> None:
    for case, last in itertools.product(("blur", "volume"), (False, True)):
        (kernel, stride, before, dilation, places, border), size = CASES[case]
        x, pooled, weights, factors = numbers(case, 3, torch.float32)
        up = (laid(x, last), weights, factors, kernel, stride, before, dilation, places, border)
        down = (pooled, list(size), weights, None, kernel, stride, before, dilation, border, last)
        opcheck(torch.ops.switchgrad.filter_pool.default, up, test_utils=("test_schema", "test_faketensor"))
        opcheck(torch.ops.switchgrad.filter_pool_spread.default, down, test_utils=("test_schema", "test_faketensor"))


def test_a_place_without_a_factor_is_zero_whatever_it_sees() -> None:
    x = torch.tensor([[[torch.nan, 1.0, 2.0, 3.0]]])
    got = call("filter_pool", x, torch.ones(2), torch.tensor([0.0, 0.5]), [2], [2], [0], [1], [2], 0)
    assert got.tolist() == [[[0.0, 2.5]]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({0: torch.ones(1, 1, 4, 4, dtype=torch.int32)}, "float64, float32, float16 or bfloat16"),
        ({1: torch.ones(2, 2)}, "takes 9 in the precision"),
        ({1: torch.ones(3, 3, dtype=torch.float64)}, "in the precision to compute in"),
        ({2: torch.ones(5)}, "takes 4 in the precision"),
        ({4: [0, 2]}, "do not fit"),
        ({3: [3]}, "axes"),
        ({5: [7, 7], 8: 2}, "cannot be reflected"),
        ({8: 3}, "for each of 1 to 3 spatial axes"),
    ],
)
def test_refused_in_words(change: dict[int, Any], sentence: str) -> None:
    arguments: list[Any] = [torch.ones(1, 1, 4, 4), torch.ones(3, 3), None, [3, 3], [2, 2], [1, 1], [1, 1], [2, 2], 0]
    for at, value in change.items():
        arguments[at] = value
    with pytest.raises(RuntimeError, match=sentence):
        call("filter_pool", *arguments)
