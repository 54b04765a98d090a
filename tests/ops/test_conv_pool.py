"""Convolution, ReLU and max pooling in one: what the operators declare themselves to be."""

from __future__ import annotations

import pytest

import conform
from declarations.conv_pool import CONV_MAX_POOL, CONV_RELU_MAX_POOL, IN_STEPS, LEAKY

test_conv_relu_max_pool2d = conform.tests(CONV_RELU_MAX_POOL)
test_in_steps = conform.tests(IN_STEPS)

# What the compiler and the exporter see of the variants is the same code.
QUICK = [name for name in conform.CHECKS if "compile" not in name and "export" not in name]


@pytest.mark.parametrize("name", QUICK)
def test_conv_max_pool2d(name: str) -> None:
    conform.check(CONV_MAX_POOL, [name])


@pytest.mark.parametrize("name", QUICK)
def test_with_a_slope(name: str) -> None:
    conform.check(LEAKY, [name])
