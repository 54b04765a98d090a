"""Convolution, ReLU and max pooling in one: what the operators declare themselves to be."""

from __future__ import annotations

import conform
from declarations.conv_pool import CONV_MAX_POOL, CONV_RELU_MAX_POOL, IN_STEPS, LEAKY

test_conv_relu_max_pool2d = conform.tests(CONV_RELU_MAX_POOL)
test_conv_max_pool2d = conform.tests(CONV_MAX_POOL)
test_with_a_slope = conform.tests(LEAKY)
test_in_steps = conform.tests(IN_STEPS)
