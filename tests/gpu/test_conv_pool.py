"""PyTorch's convolution with bias, ReLU and pool behind it in one Triton kernel, held to the loops."""

import torch

from declarations.conv_pool import CONV_MAX_POOL, CONV_RELU_MAX_POOL
from harness.interpreted import GRADIENTS, LAYOUTS, VALUES, held_to, subset

test_values = held_to(
    subset(
        CONV_RELU_MAX_POOL, "3x2, pool 3x3/2 padded", "strides all different", "asymmetric", "1 to 1, 5x5",
        dtypes=(torch.float32,), samples=("ties", "special"),
    ),
    VALUES[:2], "conv_max_pool",
)  # fmt: skip
test_without_relu = held_to(
    subset(CONV_MAX_POOL, "pool dilated", dtypes=(torch.float64,), samples=("ties",)), VALUES[:1], "conv_max_pool"
)
test_gradients = held_to(
    subset(
        CONV_RELU_MAX_POOL, "3x2, pool 3x3/2 padded", "strides all different", "asymmetric",
        gradient_dtypes=(torch.float32,), samples=("ties",),
    ),
    GRADIENTS[:1], "conv_max_pool", "conv_max_pool_backward",
)  # fmt: skip
test_layouts = held_to(
    subset(CONV_RELU_MAX_POOL, "2x2, pool 2x2/2", dtypes=(torch.float32,), samples=("whole",)),
    LAYOUTS[:1], "conv_max_pool",
)  # fmt: skip
