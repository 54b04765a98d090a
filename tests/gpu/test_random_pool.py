"""Stochastic pooling and max-pooling dropout by Triton kernels: the same words, the same winners as everywhere."""

import torch

from declarations.random_pool import random_pool
from harness.interpreted import GRADIENTS, LAYOUTS, VALUES, held_to, subset

SINGLE = {"dtypes": (torch.float32,), "samples": ("plain", "ties", "nan", "extreme")}
DOUBLE = {"dtypes": (torch.float64,), "gradient_dtypes": (torch.float64,), "samples": ("plain", "nan")}
HALF = {"dtypes": (torch.bfloat16,), "samples": ("plain",)}
CASES = ("asymmetric, ceil", "windows without a cell")

test_stochastic = held_to(subset(random_pool("stochastic_pool", 2), *CASES, **SINGLE), VALUES[:1], "stochastic_pool")
test_dropout = held_to(subset(random_pool("max_pool_dropout", 2), *CASES, **SINGLE), VALUES[:1], "max_pool_dropout")
test_stochastic_volumes = held_to(
    subset(random_pool("stochastic_pool", 3), "overlapping", **DOUBLE),
    (VALUES[0], VALUES[2], *GRADIENTS), "stochastic_pool",
)  # fmt: skip
test_dropout_signals = held_to(
    subset(random_pool("max_pool_dropout", 1), "wide 5/3 dilated", **DOUBLE),
    (VALUES[0], VALUES[2], *GRADIENTS), "max_pool_dropout",
)  # fmt: skip
test_stochastic_layouts = held_to(
    subset(random_pool("stochastic_pool", 2), "2x2/2", **HALF), LAYOUTS[:1], "stochastic_pool"
)
test_dropout_layouts = held_to(
    subset(random_pool("max_pool_dropout", 2), "2x2/2", **HALF), LAYOUTS[:1], "max_pool_dropout"
)
