"""How every benchmark here measures: interleaved, medians, both allocators, results as JSON.

A measurement of a process that keeps its memory (glibc's ``M_MMAP_MAX=0`` and a large ``M_TRIM_THRESHOLD``, as
Switchgrad's own training does) and one of a process with the default allocator differ by the page faults of every
large tensor, so each benchmark runs once in each, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import switchgrad

RESULTS = Path(__file__).parent / "results"
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
THREADS = 2


def interleaved(functions: dict[str, Callable[[], object]], seconds: float = 1.5, least: int = 7) -> dict[str, float]:
    """Median milliseconds of each function; they take turns, so that a busy moment hits all of them.

    In its turn a function runs twice and the second time counts, and every round has its own order: otherwise one finds
    in the cache what the one before it read, and another wakes threads that slept through a peer with threads of its
    own.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    order, shuffle = list(functions.items()), random.Random(0).shuffle
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[order[0][0]]) < least:
        shuffle(order)
        for name, function in order:
            function()
            start = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def is_asked_for(name: str, options: argparse.Namespace) -> bool:
    """Whether ``--only``, which may hold several parts between commas, names this row."""
    return any(part in name for part in options.only.split(","))


def environment() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    info = switchgrad.info()
    return {
        "versions": info.versions,
        "isa": info.isa,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def run(script: str, measure: Callable[[argparse.Namespace], list[dict[str, Any]]]) -> None:
    """The command line of a benchmark: measures with both allocators and writes ``results/<script>.json``."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--memory", choices=("default", "kept"), help="measure with one allocator and print JSON")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each row")
    parser.add_argument("--compile", action="store_true", help="torch.compile among the peers, where the script has it")
    parser.add_argument("--tune", action="store_true", help="optimize(..., tune=True) too, where the script has it")
    parser.add_argument("--update", action="store_true", help="with --only: replace these rows in the committed file")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.memory:
        print(json.dumps(measure(options)))
        return
    rows: list[dict[str, Any]] = []
    for memory in ("default", "kept"):
        command = [sys.executable, sys.argv[0], *sys.argv[1:], "--memory", memory]
        extra = KEPT if memory == "kept" else {}
        # A failed measurement fails the run; it does not become an empty cell.
        done = subprocess.run(command, env=os.environ | extra, stdout=subprocess.PIPE, text=True, check=True)
        rows += [{"memory": memory, **row} for row in json.loads(done.stdout)]
    if options.update or not options.only:
        _write(script, rows, older=_rows_on_file(script) if options.update else [])
    print(table(rows))


def _rows_on_file(script: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{script}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def _write(script: str, rows: list[dict[str, Any]], older: list[dict[str, Any]]) -> None:
    """Rows of the same name take the place of older ones; new ones stand last within their allocator."""
    found = {(row["memory"], row["case"]): row for row in [*older, *rows]}
    result = {
        "benchmark": script,
        "environment": environment(),
        "rows": sorted(found.values(), key=lambda row: row["memory"]),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{script}.json").write_text(json.dumps(result, indent=1) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; every row has the same keys."""

    def cell(value: object) -> str:
        return f"{value:.2f}" if isinstance(value, float) else "-" if value is None else str(value)

    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in rows])
