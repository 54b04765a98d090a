"""The benchmark of pooling on CUDA, as far as it goes without a GPU: its dry run, its gate, its sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from harness.interpreted import OnTriton

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
COMMAND = [sys.executable, str(BENCHMARKS / "pool_gpu.py")]


@pytest.fixture
def pool_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark as a module; it and its neighbours are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import pool_gpu

    yield pool_gpu
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure")
def test_without_a_device_it_says_so() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("PyTorch finds no CUDA device here, so nothing was measured")


def test_the_dry_run_has_every_operator() -> None:
    done = subprocess.run([*COMMAND, "--dry-run"], capture_output=True, text=True, check=True, timeout=120)
    header, _, *rows = done.stdout.splitlines()
    assert header.split(" | ")[0] == "| case"
    assert len(rows) == len({row.split(" | ")[0] for row in rows})
    for operator in ("max", "global max", "stochastic", "dropout", "roi max", "average", "adaptive", "L3", "roi align"):
        assert any(row.startswith(f"| {operator} ") for row in rows), operator


def test_a_row_is_measured_by_the_kernels(pool_gpu: ModuleType) -> None:
    import measure_gpu

    case = next(case for case in pool_gpu.selecting() if case.name.startswith("max 2/2") and case.channels_last)
    with OnTriton() as mode:
        row = pool_gpu.row(case, measure_gpu.Host(), 0.0)
    assert mode.served >= {"max_pool", "max_pool_route"}
    assert row["compiled_both_ms"] is None
    assert row["share"] == row["copy_ms"] / row["ours_forward_ms"]


def test_the_copy_moves_what_the_forward_must(pool_gpu: ModuleType) -> None:
    case = pool_gpu.selecting()[0]  # 2 x 2 windows: a quarter as many numbers and codes come out
    cells = 2 * 3 * 12 * 12
    target = pool_gpu.copied(case, torch.zeros(2, 3, 12, 12))()
    assert 2 * target.numel() == cells * 4 + cells // 4 * (4 + 1)


@pytest.mark.parametrize("wrong", [lambda x: x[..., ::2, ::2].contiguous(), lambda x: x.square()[..., ::2, ::2]])
def test_the_gate_refuses_wrong_values(pool_gpu: ModuleType, wrong: object) -> None:
    right = pool_gpu.averaging()[0]
    x = torch.randn(2, 3, 12, 12)
    pool_gpu.check(right, x)
    calls = iter((right.ours, wrong))  # the CPU's, then the device's
    with pytest.raises(SystemExit, match=r"average 2/2 .* the values differ from the CPU's by"):
        pool_gpu.check(replace(right, ours=lambda x: next(calls)(x)), x)
