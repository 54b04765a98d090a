"""How the benchmarks on CUDA measure: CUDA events, medians, peak memory, results as JSON; and a dry run without a GPU.

A dry run does all of it on the CPU with the clock of the host, small and without writing: it shows that the command
works before somebody spends a GPU's time on it. Its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import util
from importlib.metadata import version
from typing import Any

import torch

from measure import RESULTS, environment, table

NO_DEVICE = (
    "PyTorch finds no CUDA device here, so nothing was measured; run it where torch.cuda.is_available() is true, or "
    "add --dry-run to see that the command works"
)


class Cuda:
    """The CUDA device that PyTorch would take."""

    name = "cuda"
    dry = False

    def median_ms(self, function: Callable[[], object], seconds: float, least: int = 10) -> float:
        """Median milliseconds of a call, each between two events of its stream; three calls warm up."""
        for _ in range(3):
            function()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < least:
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop))
        return statistics.median(times)

    def peak_bytes(self, function: Callable[[], object]) -> int:
        """The most memory that tensors held during a call, with all that was there before.

        What a CUDA graph uses counts while it is recorded, and no longer when it is replayed.
        """
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    def forget(self) -> None:
        """Give memory that nobody holds back to the device."""
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def environment(self) -> dict[str, Any]:
        """What a figure depends on besides the code."""
        found = torch.cuda.get_device_properties(0)
        return {
            **environment(),
            "device": found.name,
            "capability": f"{found.major}.{found.minor}",
            "memory_bytes": found.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "triton": version("triton") if util.find_spec("triton") else None,
        }


class Host:
    """The CPU, in its place for a dry run."""

    name = "cpu"
    dry = True

    def median_ms(self, function: Callable[[], object], seconds: float, least: int = 2) -> float:
        """Median milliseconds of a call by the host's clock."""
        del seconds
        times: list[float] = []
        for _ in range(least):
            start = time.perf_counter()
            function()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)

    def peak_bytes(self, function: Callable[[], object]) -> int:
        """The CPU's allocator does not count: 0."""
        function()
        return 0

    def forget(self) -> None:
        """Nothing to give back."""

    def environment(self) -> dict[str, Any]:
        """That of the CPU's benchmarks."""
        return environment()


Machine = Cuda | Host


def run(script: str, measure: Callable[[Machine, argparse.Namespace], list[dict[str, Any]]]) -> None:
    """The command line of a benchmark on CUDA: measures and writes ``results/<script>.json``."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--dry-run", action="store_true", help="go through everything on the CPU, write nothing")
    parser.add_argument("--only", default="", help="rows whose name contains this; printed, not written")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each figure")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        raise SystemExit(NO_DEVICE)
    machine = Host() if options.dry_run else Cuda()
    rows = measure(machine, options)
    if not rows:
        raise SystemExit(f"no row's name contains {options.only!r}")
    result = {"benchmark": script, "environment": machine.environment(), "rows": rows}
    text = json.dumps(result, indent=1) + "\n"
    if not (options.dry_run or options.only):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{script}.json").write_text(text)
    print(table(rows))
