"""ReLU and max pooling by one Triton kernel, held to the same loops as the C++ kernels."""

import torch

from declarations.relu_max_pool import LEAKY_MAX_POOL, RELU_MAX_POOL
from harness.interpreted import GRADIENTS, VALUES, held_to, subset

test_relu_max_pool = held_to(
    subset(
        RELU_MAX_POOL, "2x2/2 odd, ceil", "windows without a cell",
        dtypes=(torch.float32, torch.bfloat16), samples=("ties", "nan", "negative"),
    ),
    VALUES, "relu_max_pool",
)  # fmt: skip
test_values_alone = held_to(
    subset(RELU_MAX_POOL, "asymmetric, ceil", dtypes=(torch.float32,), samples=("nan",)),
    ("the_short_form_agrees",), "relu_max_pool", "relu_max_pool_values",
)  # fmt: skip
test_gradients = held_to(
    subset(RELU_MAX_POOL, "3x2, all different", gradient_dtypes=(torch.float32,), samples=("nan", "negative")),
    GRADIENTS, "relu_max_pool", "max_pool_route",
)  # fmt: skip
test_slope = held_to(
    subset(LEAKY_MAX_POOL, "2x2/2", dtypes=(torch.float32,), samples=("ties",)), VALUES[:1], "max_pool"
)  # fmt: skip
