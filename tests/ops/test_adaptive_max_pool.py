"""Adaptive max pooling is what it declares itself to be; where sizes divide it has the switches of max pooling."""

from __future__ import annotations

import pytest
import torch

import conform
from declarations.avg_pool import adaptive_cases
from declarations.max_pool import adaptive_max_pool
from switchgrad import ops

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


def test_both_flags_are_refused() -> None:
    for size in (2, 3):
        with pytest.raises(ValueError, match=r"both set|differ in size"):
            ops.adaptive_max_pool1d(torch.ones(1, 4), size, True, return_switches=True)
