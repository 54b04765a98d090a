"""Batch normalisation with ReLU and max pooling by Triton kernels, held to the same loops as the C++ kernels."""

import torch

from declarations.batch_norm import BATCH_NORM_RELU, BATCH_NORM_RELU_MAX_POOL
from harness.interpreted import GRADIENTS, LAYOUTS, VALUES, held_to, subset

TRAINING = ("batch_norm_relu", "batch_norm_move")
POOLED = ("batch_norm_relu_max_pool_values", "batch_norm_move")

test_values = held_to(
    subset(BATCH_NORM_RELU, "evaluation", "vectors", "volumes", "many channels", dtypes=(torch.float32,)),
    VALUES[:1], *TRAINING,
)  # fmt: skip
test_halves = held_to(
    subset(BATCH_NORM_RELU, "plain", dtypes=(torch.float16, torch.bfloat16), samples=("plain",)), VALUES[:1], *TRAINING
)
test_pooled_values = held_to(
    subset(
        BATCH_NORM_RELU_MAX_POOL, "evaluation", "3x3/2 padded", "odd, ceil",
        dtypes=(torch.float32, torch.bfloat16), samples=("plain",),
    ),
    VALUES[:1], *POOLED,
)  # fmt: skip
test_gradients = held_to(
    subset(BATCH_NORM_RELU, "evaluation", "signals", gradient_dtypes=(torch.float32,), samples=("plain",)),
    GRADIENTS[:1], "batch_norm_relu_backward",
)  # fmt: skip
test_pooled_gradients = held_to(
    subset(
        BATCH_NORM_RELU_MAX_POOL, "evaluation", "3x3/1", "hops", gradient_dtypes=(torch.float32,), samples=("plain",)
    ),
    GRADIENTS[:1], "batch_norm_relu_max_pool", "batch_norm_relu_max_pool_backward",
)  # fmt: skip
test_layouts = held_to(
    subset(BATCH_NORM_RELU, "plain", dtypes=(torch.float32,), samples=("plain",)), LAYOUTS[:1], *TRAINING
)
