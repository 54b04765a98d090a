"""Every kernel compiles for GPUs, down to their machine code, and uses no atomics: what the interpreter cannot see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
WINDOWS = "[3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0], [7, 5, 1, 2, 0, 1, 2, 0, 2, 1, 1]"
MAX = f"""
from switchgrad.gpu import max_pool as gpu
for window in ({WINDOWS})[1:]:
    values, codes = gpu.max_pool(x, window)
    gpu.max_pool_values(x, window)
    gpu.max_pool_route(values, codes, x.shape[2:], window)
    gpu.max_pool_gather(x, codes, window)
    gpu.max_pool_indices(codes, x.shape[2:], window)
assert seen == ["pool", "pool", "route", "follow", "follow"], seen
"""
AVERAGE = f"""
from switchgrad.gpu import avg_pool as gpu
for window in ({WINDOWS})[:1]:
    for include, divisor in ((True, 0.0), (False, 0.0), (True, 3.0)):
        values = gpu.avg_pool(x, window, include, divisor)
        gpu.avg_pool_spread(values, x.shape[2:], window, include, divisor, False)
assert seen == ["average", "spread"] * 3, seen
"""
ADAPTIVE = """
from switchgrad.gpu import adaptive_pool as gpu
for laid in (x, x.to(memory_format=torch.channels_last)):
    gpu.adaptive_avg_pool_spread(gpu.adaptive_avg_pool(laid, [3, 4]), x.shape[2:], False)
    largest = x.new_empty((*x.shape[:2], 1, 1))
    gpu.largest_of_bins(laid, largest, torch.empty_like(largest, dtype=torch.uint8), 2)
assert seen == ["bin_average", "bin_spread", "bin_maximum"] * 2, seen
"""
RANDOM = f"""
from switchgrad.gpu import random_pool as gpu
for window in ({WINDOWS})[:1]:
    gpu.stochastic_pool(x, torch.tensor(7), window)
    gpu.max_pool_dropout(x, torch.tensor(7), 0.5, window)
assert seen == ["stochastic_pool", "max_pool_dropout"], seen
"""
BLOCKS = """
from switchgrad.gpu import batch_norm as gpu, blocks
window = [3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0]
one, zero = torch.ones(3), torch.zeros(3)
blocks.relu_max_pool(x, window)
y, statistics = gpu.batch_norm_relu(x, one, zero, one, zero, True, 1e-5)
gpu.batch_norm_relu_backward(y, x, one, zero, statistics, True, 1e-5)
x = x.contiguous(memory_format=torch.channels_last)
y, codes, statistics = gpu.batch_norm_relu_max_pool(x, one, None, one, zero, False, 1e-5, window)
gpu.batch_norm_relu_max_pool_backward(y, x, codes, one, None, statistics, False, 1e-5, window)
gpu.batch_norm_move(one, zero, statistics, 0.1, 9)
assert seen == [
    "pool_block", "statistics_sums", "settle", "apply", "fold", "sums", "settle_gradient", "gradient",
    "fold", "pool_block", "fold", "pooled_sums", "settle_gradient", "pooled_gradient", "move",
], seen
"""
REST = """
from switchgrad.gpu import cross_entropy as loss, dropout
seed, bias, target = torch.tensor(7), torch.zeros(3), torch.zeros(2, dtype=torch.int64)
dropout.dropout(x, seed, 0.5)
dropout.bias_relu_dropout(x, bias, seed, 0.25, 1)
rows = x.reshape(2, -1)[:, ::7]
loss.cross_entropy(rows, target, None, -100, 0.1, 1)
loss.cross_entropy_values(rows, target, rows[0].contiguous(), 1, 0.0, 0)
assert seen == ["drop", "drop", "counted_weight", "rows_of_scores", "sum_of_losses", "rows_of_scores"], seen
"""
NORMS = f"""
from switchgrad.gpu import lp_pool as gpu
for p in (2.5, 0.3):
    values = gpu.lp_pool(x, p, ({WINDOWS})[0])
    gpu.lp_pool_spread(values, x, values, p, ({WINDOWS})[0])
assert seen == ["norm", "spread"] * 2, seen
"""
PLACED = """
from switchgrad.gpu import placed_pool as gpu
starts = torch.tensor([0, 2, 4, 0, 3, 7])
values, codes = gpu.placed_max_pool(x, starts, None, [3, 3], [3, 2])
gpu.placed_max_pool_route(values, codes, starts, None, x.shape[2:], [3, 2])
assert seen == ["pool", "route"], seen
"""
REGIONS = """
from switchgrad.gpu import regions as gpu
boxes = torch.zeros(4, 5)
x = x.repeat(1, 2, 1, 1)
for ratio, aligned, sensitive in ((2, True, False), (-1, False, True)):
    y = gpu.roi_align(x, boxes, [2, 3], 0.5, ratio, aligned, sensitive)
    gpu.roi_align_spread(y, boxes, x.shape, 0.5, ratio, aligned, sensitive, sensitive)
y = gpu.roi_average(x, boxes, [2, 3], 0.5, True)
values, winners = gpu.roi_max(x, boxes, [2, 3], 0.5)
gpu.roi_max_route(values, boxes, winners, x.shape, True)
both = ["sample_weights", "sample_weights", "box_sums", "sample_weights", "sample_weights", "box_spread"]
bounds = ["whole_cells", "whole_cells"]
assert seen == [*both, *both, *bounds, "box_sums", *bounds, "box_maxima", "box_spread"], seen
"""


def compiles(calls: list[tuple[str, str]], tmp_path: Path) -> None:
    """Run calls where kernels are compiled instead of run, each with an input ``x`` of its dtype."""
    script = "import torch\nfrom harness.compiled import compiling\nseen = compiling()\n"
    for dtype, section in calls:
        script += f"seen.clear()\nx = torch.zeros(2, 3, 40, 41, dtype=torch.{dtype})\n{section}"
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(TESTS)}
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, env=environment, timeout=300)


@pytest.mark.slow
def test_kernels_compile(tmp_path: Path) -> None:
    compiles([("bfloat16", MAX), ("float32", AVERAGE), ("float16", ADAPTIVE), ("float64", RANDOM)], tmp_path)


@pytest.mark.slow
def test_kernels_of_blocks_compile(tmp_path: Path) -> None:
    compiles(
        [("bfloat16", BLOCKS), ("float16", REST), ("float64", NORMS), ("float32", REGIONS), ("bfloat16", PLACED)],
        tmp_path,
    )
