"""The harness can see: its samples are nasty, its comparisons strict, and its poison reaches memory of C++."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

import conform
from harness.compare import bits, require_near, require_same, require_same_but_payload
from harness.engines import can_poison_malloc, poisoned
from harness.layouts import expanded, follows, layouts
from harness.samples import KINDS, sample, seeded

SHAPE = (2, 3, 5, 7)
LIBTORCH = next((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))
FLOAT32, CPU = 6, 0  # as PyTorch's C interface numbers them


@pytest.mark.parametrize("dtype", conform.FLOATS + conform.INTEGERS)
def test_samples_are_never_monotone_and_have_negatives(dtype: torch.dtype) -> None:
    x = sample("plain", SHAPE, dtype, seeded(dtype)).flatten().double()
    steps = x.diff().sign()
    assert {-1.0, 1.0} <= set(steps.tolist())
    assert (x < 0).any() or dtype == torch.uint8
    assert (sample("negative", SHAPE, dtype, seeded(dtype)).double() < (128 if dtype == torch.uint8 else 0)).all()
    assert torch.unique(sample("ties", SHAPE, dtype, seeded(dtype))).numel() <= 4
    assert torch.unique(sample("lowest", SHAPE, dtype, seeded(dtype))).numel() == 1


@pytest.mark.parametrize("dtype", conform.FLOATS)
def test_nan_samples_have_both_signs_and_payloads(dtype: torch.dtype) -> None:
    x = sample("nan", SHAPE, dtype, seeded("nan"))
    spoilt = x[x.isnan()]
    assert 0.2 < len(spoilt) / x.numel() < 0.5
    assert {True, False} == set(spoilt.signbit().tolist())
    assert torch.unique(bits(spoilt)).numel() == 3
    assert x.isinf().any()


def test_samples_repeat_themselves() -> None:
    for kind in KINDS:
        first, second = (sample(kind, SHAPE, torch.float32, seeded("again", kind)) for _ in range(2))
        require_same(first, second, kind)


def test_bits_tell_zeros_apart_and_nan_equals_itself() -> None:
    nan = torch.tensor([torch.nan, 1.0])
    require_same(nan, nan.clone(), "NaN")
    with pytest.raises(AssertionError, match=r"1 of 1 differ, first at \(0,\): got -0.0, wanted 0.0"):
        require_same(torch.tensor([-0.0]), torch.tensor([0.0]), "zeros")
    with pytest.raises(AssertionError, match=r"got \(1,\) torch.float64"):
        require_same(torch.zeros(1, dtype=torch.float64), torch.zeros(1), "dtypes")
    with pytest.raises(AssertionError, match=r"got \(1, 2\)"):
        require_same(torch.zeros(1, 2), torch.zeros(2, 1), "shapes")
    other = torch.tensor([0x7FC00123, 0x3F800000], dtype=torch.int32).view(torch.float32)
    require_same_but_payload(nan, other, "payloads")
    with pytest.raises(AssertionError, match="1 of 2 differ"):
        require_same(nan, other, "payloads")


def test_the_yardstick_refuses_nan_and_excess() -> None:
    truth = torch.tensor([1.0, 2.0], dtype=torch.float64)
    peer = torch.tensor([1.0, 2.001])
    require_near(torch.tensor([1.0015, 2.0]), peer, truth, 2, "within")
    for wrong in ([1.003, 2.0], [1.0, torch.nan], [torch.inf, 2.0]):
        with pytest.raises(AssertionError, match="is allowed"):
            require_near(torch.tensor(wrong), peer, truth, 2, "beyond")


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 5, 7), (2, 3, 2, 5, 4)])
def test_layouts_hold_the_same_numbers_elsewhere(shape: tuple[int, ...]) -> None:
    x = sample("plain", shape, torch.float32, seeded("layouts"))
    variants = layouts(x)
    for name, view in variants.items():
        require_same(view, x, name)
    places = {(view.stride(), view.storage_offset()) for view in variants.values()}
    assert len(places) == len(variants)
    assert all(0 in view.stride() for view in expanded(x).values())
    assert len(expanded(x)) == len(shape)


def test_following_a_layout_can_fail() -> None:
    x = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert follows(torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last), x)
    assert not follows(torch.zeros(2, 3, 2, 2), x)


@pytest.mark.skipif(not can_poison_malloc(), reason="fills memory through glibc's mallopt, which is not here")
@pytest.mark.parametrize("count", [300, 100_000, 10_000_000])
def test_poison_reaches_memory_of_python_and_of_cpp(count: int) -> None:
    torch_c = ctypes.CDLL(str(LIBTORCH))
    for byte in (0x55, 0xCC):
        with poisoned(byte):
            assert torch.empty(count).isnan().all()
            assert (torch.empty(count, dtype=torch.uint8) == 255).all()
            handle, data = ctypes.c_void_p(), ctypes.c_void_p()
            sizes, strides = (ctypes.c_int64 * 1)(count), (ctypes.c_int64 * 1)(1)
            failed = torch_c.aoti_torch_empty_strided(
                ctypes.c_int64(1), sizes, strides, FLOAT32, CPU, 0, ctypes.byref(handle)
            )
            assert not failed
            torch_c.aoti_torch_get_data_ptr(handle, ctypes.byref(data))
            memory = torch.frombuffer((ctypes.c_uint8 * (4 * count)).from_address(data.value or 0), dtype=torch.uint8)
            share = (memory == byte).float().mean().item()
            torch_c.aoti_torch_delete_tensor_object(handle)
            assert share > 0.9  # the first bytes of a block may have been used by malloc itself
