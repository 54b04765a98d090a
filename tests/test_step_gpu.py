"""The benchmark for CUDA devices, as far as it goes without one: its dry run, its gate, its sentence, its file."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import switchgrad

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def measure_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmarks' modules, importable as they are to each other."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measure_gpu

    yield measure_gpu
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", "") and str(BENCHMARKS) in str(sys.modules[name].__file__):
            del sys.modules[name]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "step_gpu.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure")
def test_without_a_device_it_says_so_and_what_to_do() -> None:
    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith("PyTorch finds no CUDA device here, so nothing was measured; run it where ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_dry_run_goes_through_every_way() -> None:
    done = run("--dry-run", "--only", "float32")
    assert done.returncode == 0, done.stderr
    head, _, row = done.stdout.splitlines()
    cells = dict(zip(head.split("|")[1:-1], row.split("|")[1:-1], strict=True))
    assert cells[" case "] == " tiny batch 4 float32 "
    for way in ("torch", "channels_last", "compile", "optimized", "graph", "graph_channels_last"):
        assert float(cells[f" {way}_ms "]) > 0


def test_a_network_with_wrong_gradients_is_not_measured(
    measure_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import step_gpu

    case = next(step_gpu.cases(measure_gpu.Host()))
    network = case.make()
    step_gpu.gate(case, network, measure_gpu.Host())

    def spoilt(model: torch.nn.Module) -> torch.nn.Module:
        model = copy.deepcopy(model)
        with torch.no_grad():
            model[0].weight[0, 0, 0, 0] += 0.01
        return model

    monkeypatch.setattr(switchgrad, "optimize", spoilt)
    with pytest.raises(SystemExit, match="gradients differ from PyTorch's"):
        step_gpu.gate(case, network, measure_gpu.Host())


def test_the_file_holds_device_and_rows(
    measure_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(machine: Any, options: Any) -> list[dict[str, Any]]:
        return [{"case": "a", "ms": machine.median_ms(lambda: None, options.seconds)}]

    monkeypatch.setattr(measure_gpu, "RESULTS", tmp_path)
    monkeypatch.setattr(measure_gpu, "Cuda", measure_gpu.Host)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["step_gpu.py"])
    measure_gpu.run("some_gpu", measure)
    result = json.loads((tmp_path / "some_gpu.json").read_text())
    assert result["benchmark"] == "some_gpu"
    assert result["rows"][0]["case"] == "a"
    assert "versions" in result["environment"]
    for flag in ("--dry-run", "--only=a"):
        monkeypatch.setattr(sys, "argv", ["step_gpu.py", flag])
        measure_gpu.run("other_gpu", measure)
    assert [path.name for path in tmp_path.iterdir()] == ["some_gpu.json"]
    monkeypatch.setattr(sys, "argv", ["step_gpu.py", "--only=b"])
    with pytest.raises(SystemExit, match="no row's name contains 'b'"):
        measure_gpu.run("other_gpu", lambda machine, options: [])
