"""ReLU and max pooling in one: the harness, its mutants, and the sentences it refuses with."""

from __future__ import annotations

import math
import re

import pytest
import torch
import torch.nn.functional as F

import conform
from declarations.relu_max_pool import FEW, LEAKY_MAX_POOL, RELU_MAX_POOL, Rectified
from switchgrad import geometry, ops
from switchgrad.errors import GeometryError

test_relu_max_pool2d = conform.tests(RELU_MAX_POOL)
test_mutant = conform.mutant_tests(FEW)


SEEN = ("values_equal_the_loops", "values_equal_the_peer", "gradients_equal_the_loops", "gradients_equal_the_peer")


def test_what_the_mutants_derive_from_is_right() -> None:
    conform.check(conform.stand_in(FEW, "right", Rectified()), SEEN)


# With a slope it is max pooling and PyTorch's leaky ReLU, whose own compilation need not be tried again.
@pytest.mark.parametrize("name", [name for name in conform.CHECKS if "compile" not in name and "export" not in name])
def test_with_a_slope(name: str) -> None:
    conform.check(LEAKY_MAX_POOL, [name])


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_nan_passes_and_takes_the_gradient_that_pytorch_gives_it(slope: float, dtype: torch.dtype) -> None:
    x = torch.tensor([[[[math.nan, -1.0, 2.0, 3.0], [5.0, -math.inf, -1.0, -2.0]]]], dtype=dtype, requires_grad=True)
    ours = ops.relu_max_pool2d(x, 2, negative_slope=slope)
    theirs = F.max_pool2d(F.leaky_relu(x, slope) if slope else F.relu(x), 2)
    torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=0, atol=0)
    sent = torch.tensor([[[[4.0, 8.0]]]], dtype=dtype)
    (got,), (wanted,) = (torch.autograd.grad(y, x, sent) for y in (ours, theirs))
    assert torch.equal(got, wanted)


def test_dead_windows_keep_no_winner() -> None:
    x = torch.tensor([[[[-3.0, -1.0, 0.0, -0.0], [-2.0, -5.0, -4.0, -7.0]]]])
    values, switches = ops.relu_max_pool2d(x, 2, return_switches=True)
    assert switches.codes.tolist() == [[[[255, 255]]]]
    assert values.tolist() == [[[[0.0, 0.0]]]]
    assert torch.signbit(values).sum() == 0
    assert not switches.mask().any()


@pytest.mark.parametrize("slope", [-0.1, math.inf, math.nan])
def test_slopes_that_turn_the_order_are_refused(slope: float) -> None:
    with pytest.raises(GeometryError, match=rf"^negative_slope is {re.escape(str(slope))}; the maximum commutes"):
        ops.relu_max_pool2d(torch.zeros(1, 1, 2, 2), 2, negative_slope=slope)


def test_integers_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"^the input has dtype torch.int32; a ReLU before max pooling takes"):
        ops.relu_max_pool2d(torch.zeros(1, 1, 2, 2, dtype=torch.int32), 2)
    with pytest.raises(RuntimeError, match=r"a ReLU before max pooling takes float64, float32"):
        torch.ops.switchgrad.relu_max_pool(torch.zeros(1, 1, 2, 2, dtype=torch.int32), geometry.window(2, 2).numbers)


def test_geometry_is_checked_like_max_pooling() -> None:
    with pytest.raises(GeometryError, match=r"the window spans 5 cells along spatial axis 0"):
        ops.relu_max_pool2d(torch.zeros(1, 1, 4, 4), 5)
    with pytest.raises(GeometryError, match=r"takes an input of 3 or 4 axes"):
        ops.relu_max_pool2d(torch.zeros(4, 4), 2)
