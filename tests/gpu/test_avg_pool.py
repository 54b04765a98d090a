"""Average and adaptive pooling by Triton kernels, held to the same loops as the C++ kernels."""

import torch

from declarations.avg_pool import adaptive_avg_pool, avg_pool, sum_pool
from harness.interpreted import GRADIENTS, LAYOUTS, VALUES, held_to, subset

FLOAT = {"dtypes": (torch.float32,), "gradient_dtypes": (torch.float32,), "samples": ("plain",)}
BOTH_WAYS = (*VALUES, *GRADIENTS)

test_average = held_to(
    subset(
        avg_pool(2), "3x3/2 ceil, padded", "pairs, ceil, not counting", "divided by -2", "asymmetric, ceil",
        "4x2, all different",
        dtypes=(torch.float32, torch.bfloat16), gradient_dtypes=(torch.float32,), samples=("plain",),
    ),
    (*VALUES[:1], *GRADIENTS[:1]), "avg_pool",
)  # fmt: skip
test_signals = held_to(
    subset(avg_pool(1), "not counting padding", "dilated", dtypes=(torch.float64,), gradient_dtypes=(torch.float64,)),
    (*VALUES[:1], *GRADIENTS[:1]), "avg_pool",
)  # fmt: skip
test_volumes = held_to(subset(sum_pool(3), "1x2x2", "overlapping", **FLOAT), BOTH_WAYS, "avg_pool")
test_layouts = held_to(subset(avg_pool(2), "2x2/2", **FLOAT), LAYOUTS[::2], "avg_pool")
test_adaptive = held_to(
    subset(
        adaptive_avg_pool(2), "(1, 2, 5, 6) to (3, 4)", "(2, 3, 7, 5) to 1", "(1, 2, 2, 3) to (5, 3)",
        "(1, 35, 5, 4) to (3, 4)",
        dtypes=(torch.float32, torch.float16), gradient_dtypes=(torch.float32,), samples=("plain",),
    ),
    (*VALUES, *GRADIENTS), "adaptive_avg_pool",
)  # fmt: skip
test_adaptive_signals = held_to(
    subset(adaptive_avg_pool(1), "(1, 2, 7) to 3", "(1, 1, 150) to 61", **FLOAT),
    (*VALUES[:1], *GRADIENTS[:1]), "adaptive_avg_pool",
)  # fmt: skip
test_adaptive_layouts = held_to(
    subset(adaptive_avg_pool(2), "(2, 2, 4, 6) to 2", **FLOAT), LAYOUTS[:1], "adaptive_avg_pool"
)
