"""Max pooling by Triton kernels, held to the same loops as the C++ kernels."""

from dataclasses import replace

import torch

from conform import Case
from declarations.max_pool import max_pool
from harness.interpreted import GRADIENTS, LAYOUTS, VALUES, held_to, subset

EVERY = ("plain", "ties", "nan", "lowest")
SIGNALS, PICTURES, VOLUMES = (max_pool(dims) for dims in (1, 2, 3))

test_values = held_to(
    subset(
        PICTURES, "2x2/2 odd, ceil", "3x2, all different", "asymmetric", "windows without a cell",
        dtypes=(torch.float32, torch.bfloat16), samples=EVERY,
    ),
    VALUES[:1], "max_pool",
)  # fmt: skip
test_signals = held_to(
    subset(SIGNALS, "dilated", "300 cells in a window", dtypes=(torch.float64,), samples=("ties",)),
    VALUES[:1], "max_pool",
)  # fmt: skip
test_volumes = held_to(
    subset(VOLUMES, "all different", dtypes=(torch.float16,), samples=("nan",)),
    VALUES, "max_pool",
)  # fmt: skip
test_whole_maps = held_to(
    replace(
        subset(PICTURES, dtypes=(torch.float32, torch.uint8), gradient_dtypes=(torch.float32,), samples=EVERY),
        cases=(Case("a whole map", ((2, 3, 7, 41),), {"kernel_size": (7, 41), "stride": 2}),),
    ),
    (*VALUES, *GRADIENTS), "max_pool",
)  # fmt: skip
test_gradients = held_to(
    subset(
        PICTURES, "2x2/2 odd, ceil", "3x2, all different", "asymmetric",
        gradient_dtypes=(torch.float32,), samples=("ties",),
    ),
    GRADIENTS, "max_pool",
)  # fmt: skip
test_gradients_of_volumes = held_to(
    subset(VOLUMES, "all different", gradient_dtypes=(torch.float64,), samples=("nan",)),
    GRADIENTS[:1], "max_pool",
)  # fmt: skip
test_layouts = held_to(
    subset(PICTURES, "2x2/2", dtypes=(torch.float32,), gradient_dtypes=(torch.float32,), samples=("plain",)),
    LAYOUTS, "max_pool",
)  # fmt: skip
