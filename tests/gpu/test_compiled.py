"""Every kernel compiles for GPUs, down to their machine code, and uses no atomics: what the interpreter cannot see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
POOL = """
from switchgrad.gpu import max_pool as gpu
for window in (([3, 3], [2, 2], [1, 1, 1, 1], [1, 1], False), ([16, 16], [1, 1], [0, 0, 0, 0], [2, 1], True)):
    values, codes = gpu.max_pool(x, *window)
    gpu.max_pool_values(x, *window)
    gpu.max_pool_route(values, codes, x.shape[2:], *window)
    gpu.max_pool_gather(x, codes, *window)
    gpu.max_pool_indices(codes, x.shape[2:], *window)
assert seen == ["pool", "pool", "route", "follow", "follow"] * 2, seen
"""


def compiles(calls: str, tmp_path: Path, dtype: str) -> None:
    """Run ``calls`` where kernels are compiled instead of run, with an input ``x``."""
    start = (
        "import torch\nfrom harness.compiled import compiling\nseen = compiling()\n"
        f"x = torch.zeros(2, 3, 40, 41, dtype={dtype})\n"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(TESTS)}
    subprocess.run([sys.executable, "-W", "error", "-c", start + calls], check=True, env=environment, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_max_pool(tmp_path: Path, dtype: str) -> None:
    compiles(POOL, tmp_path, dtype)
