"""What every call goes through: windows in one list, plans that are kept, and the choice of the tape's function."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from switchgrad import geometry, kernels, ops
from switchgrad.errors import GeometryError

POOLINGS = (
    lambda x: ops.max_pool2d(x, 2),
    lambda x: ops.avg_pool2d(x, 2),
    lambda x: ops.relu_max_pool2d(x, 2),
    lambda x: ops.adaptive_max_pool2d(x, 3),
    lambda x: ops.lp_pool2d(x, 2, 2),
)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_window_comes_back_from_its_numbers(dims: int) -> None:
    win = geometry.window(dims, 3, 2, ((1, 0),) * dims, 2, True)
    assert len(win.numbers) == 5 * dims + 1
    assert geometry.window_of(win.numbers) == win


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
def test_the_kernels_count_a_windows_numbers() -> None:
    numbers = geometry.window(2, 2).numbers
    with pytest.raises(RuntimeError, match=r"^a window over 1, 2 or 3 axes has 6, 11 or 16 numbers; this one has 10"):
        torch.ops.switchgrad.max_pool(torch.ones(1, 1, 4, 4), numbers[1:])
    with pytest.raises(RuntimeError, match=r"^the window has 2 axes and the input 1 spatial ones; give as many"):
        torch.ops.switchgrad.max_pool_indices(torch.zeros(1, 1, 2, dtype=torch.uint8), [4], numbers)


def test_what_is_kept_of_a_call_does_not_hide_what_is_wrong_with_the_next() -> None:
    x = torch.rand(1, 2, 6, 6)
    assert ops.max_pool2d(x, 1).shape == x.shape
    with pytest.raises(GeometryError, match="kernel_size is True"):
        ops.max_pool2d(x, True)
    with pytest.raises(GeometryError, match=r"dtype torch\.complex64"):
        ops.max_pool2d(x.to(torch.complex64), 1)
    lists = ops.max_pool2d(x, [3, 2], [2, 1], [1, 0])
    assert torch.equal(lists, ops.max_pool2d(x, (3, 2), (2, 1), (1, 0)))


@pytest.mark.parametrize("pool", POOLINGS)
def test_tensors_carried_out_of_a_finished_transform_are_pooled_as_numbers(pool: object) -> None:
    carried: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        carried.append(x)
        return x.sum()

    x = torch.randn(1, 2, 8, 8)
    torch.func.grad(loss)(x)
    assert carried[0].requires_grad  # so it says, but its tape is gone
    pooled = pool(carried[0])  # pyright: ignore
    assert not pooled.requires_grad
    assert torch.equal(pooled, pool(x))  # pyright: ignore
