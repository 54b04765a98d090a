"""Dropout by Triton kernels: the masks and numbers of the CPU's kernels, bit for bit."""

from __future__ import annotations

import pytest
import torch

from harness.interpreted import OnTriton
from switchgrad import ops

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2**40 + 7)


def special(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(shape, generator=generator()).to(dtype)
    x.view(-1)[::5] = torch.nan
    x.view(-1)[1::7] = torch.inf
    return x


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1,), (33,), (3, 5, 7, 11)])
def test_masks_are_those_of_the_cpu(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = special(shape, dtype)
    for p in (0.25, 0.999):
        wanted = ops.dropout(x, p, generator=generator())
        with OnTriton() as mode:
            got = ops.dropout(x, p, generator=generator())
        assert mode.served == {"dropout"}
        assert torch.equal(got.isnan(), wanted.isnan())
        assert torch.equal(got.nan_to_num(), wanted.nan_to_num())


@pytest.mark.parametrize("dtype", FLOATS)
def test_behind_a_bias_and_a_relu(dtype: torch.dtype) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = special((2, 3, 5, 6), dtype).contiguous(memory_format=layout)
        for bias in (None, torch.tensor([0.5, -1.0, 0.0])):
            wanted = ops.bias_relu_dropout(x, bias, 0.4, generator=generator())
            with OnTriton() as mode:
                got = ops.bias_relu_dropout(x, bias, 0.4, generator=generator())
            assert mode.served == {"bias_relu_dropout"}
            assert got.stride() == wanted.stride()
            assert torch.equal(got.isnan(), wanted.isnan())
            assert torch.equal(got.nan_to_num(), wanted.nan_to_num())


def test_gradients_meet_the_same_mask() -> None:
    results = []
    for mode in (torch.enable_grad(), OnTriton()):
        x = torch.randn(3, 40, generator=generator()).requires_grad_()
        bias = torch.zeros(40, requires_grad=True)
        with mode:
            y = ops.dropout(ops.bias_relu_dropout(x, bias, 0.3, generator=generator()), 0.5, generator=generator())
            results.append(torch.autograd.grad(y.square().sum(), (x, bias)))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_a_generator_with_one_wrong_turn_is_seen() -> None:
    x = torch.ones(100)
    wanted = ops.dropout(x, 0.5, generator=generator())
    with OnTriton(dropout=lambda x, seed, p: torch.ops.switchgrad.dropout.default.redispatch(
        torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), x, seed ^ 1, p)):  # fmt: skip
        assert not torch.equal(ops.dropout(x, 0.5, generator=generator()), wanted)
