"""Adaptive max pooling is what it declares itself to be; where sizes divide it has the switches of max pooling."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

import conform
from declarations.avg_pool import adaptive_cases
from declarations.max_pool import adaptive_max_pool
from harness.compare import require_same
from harness.samples import sample, seeded
from switchgrad import kernels, ops
from switchgrad.ops.adaptive_pool import maximum
from wrong_adaptive import MUTANTS, Maxima

test_adaptive_max_pool1d = conform.tests(adaptive_max_pool(1, adaptive_cases(1)), traced=False)
test_adaptive_max_pool2d = conform.tests(adaptive_max_pool(2, adaptive_cases(2)))
test_adaptive_max_pool3d = conform.tests(adaptive_max_pool(3, adaptive_cases(3)), traced=False)


def test_switches_where_sizes_divide() -> None:
    x = torch.randn(2, 3, 6, 8)
    values, switches = ops.adaptive_max_pool2d(x, (3, 2), return_switches=True)
    assert switches.window.kernel_size == (2, 4)
    assert switches.nbytes == values.numel()
    assert torch.equal(switches.to_indices(), ops.adaptive_max_pool2d(x, (3, 2), return_indices=True)[1])
    assert ops.max_unpool2d(values, switches).shape == x.shape


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kernel", [True, False])
def test_switches_where_windows_differ_in_size(last: bool, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:  # as on a device without one
        monkeypatch.setattr(maximum, "_has_kernel", lambda _: False)
    x = torch.randn(2, 3, 8, 11)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    values, switches = ops.adaptive_max_pool2d(x, (3, 4), return_switches=True)
    wanted, indices = F.adaptive_max_pool2d(x, (3, 4), return_indices=True)
    assert torch.equal(values, wanted)
    assert torch.equal(switches.to_indices(), indices)
    assert switches.codes.dtype == torch.uint8
    unpooled = switches.unpool(values)
    by_hand = torch.zeros(2, 3, 88).scatter(-1, indices.flatten(2), values.flatten(2))
    assert torch.equal(unpooled, by_hand.reshape(x.shape))
    assert torch.equal(switches.mask(), unpooled != 0)


def test_both_flags_are_refused() -> None:
    for size in (2, 3):
        with pytest.raises(ValueError, match="both set"):
            ops.adaptive_max_pool1d(torch.ones(1, 4), size, True, return_switches=True)


FEW = replace(
    adaptive_max_pool(2, tuple(case for case in adaptive_cases(2) if math.prod(case.shapes[0]) < 250)),
    dtypes=(torch.float32,),
    gradient_dtypes=(torch.float32,),
    large=(),
    laws=(),
    mutants=MUTANTS,
)
test_mutant = conform.mutant_tests(FEW)


def test_what_the_mutants_derive_from_is_right() -> None:
    small = replace(FEW, cases=FEW.cases[:3])
    conform.check(conform.stand_in(small, "right", Maxima()), ["values_equal_the_loops", "gradients_equal_the_loops"])


@pytest.mark.parametrize("isa", kernels.isas() or [None])
@pytest.mark.parametrize(("shape", "places"), [((3, 20, 55, 53), 7), ((1, 70, 100, 70), 3), ((2, 3, 700), 12)])
@pytest.mark.parametrize("last", [False, True])
def test_large_maps_are_pytorchs(isa: str | None, shape: tuple[int, ...], places: int, last: bool) -> None:
    """Rows wider than a vector, more channels than a chunk, windows beyond a byte, in both layouts."""
    dims = len(shape) - 2
    pool, peer = (getattr(module, f"adaptive_max_pool{dims}d") for module in (ops, torch.nn.functional))
    x = sample("nan" if last else "ties", shape, torch.float32, seeded(f"adaptive {shape}"))
    x = x.contiguous(memory_format=torch.channels_last) if last and dims == 2 else x
    x.requires_grad_()
    with kernels.use_isa(isa) if isa else nullcontext():
        values, indices = pool(x, places, return_indices=True)
        grad = sample("plain", tuple(values.shape), torch.float32, seeded("sent"))
        (slope,) = torch.autograd.grad(values, x, grad)
    wanted, where = peer(x, places, return_indices=True)
    require_same(values.detach(), wanted.detach(), "values")
    assert torch.equal(indices, where)
    torch.testing.assert_close(slope, torch.autograd.grad(wanted, x, grad)[0])


def test_the_slope_of_the_slope() -> None:
    x = torch.randn(1, 2, 7, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: ops.adaptive_max_pool2d(x, (3, 2)), x)
    assert gradgradcheck(lambda x: ops.adaptive_max_pool2d(x, (3, 2)), x)
