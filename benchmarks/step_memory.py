"""Memory of a training step of VGG-16, 224x224, batch 4: each side in a process of its own.

    python benchmarks/step_memory.py          # writes results/step_memory.json

A process takes two steps (so that momentum exists), waits at the start of the third, resets the system's mark of the
most memory that the process has had in use (Linux: /proc/self/clear_refs), and takes the third. ``held`` is what was
in use before: parameters, momentum and the process itself; ``peak`` is the mark. Their difference, ``step``, is what
the step needs besides: activations, gradients, workspaces. ``kept_for_backward`` is what forward leaves behind.

``updated in backward``: each parameter is updated, and its gradient freed, as soon as the gradient is whole; for
PyTorch's network by PyTorch's own recipe (an optimiser for each parameter, called by a hook), for ours by
`switchgrad.train.update_in_backward`.

glibc is told to return every block of 64 KiB and more at once (MALLOC_MMAP_THRESHOLD_), so that what the process has in
use is what it needs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import switchgrad
from measure import RESULTS, THREADS, environment, table
from networks import NETWORKS

WAYS = ("torch", "channels_last", "torch, updated in backward", "optimized", "optimized, updated in backward")
BATCH, WANTED = 4, 0.65
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
MIB = 1024


def memory_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {field}")


def reset_peak() -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def update_by_hooks(network: nn.Module) -> None:
    """PyTorch's recipe for fusing the optimiser's step into the backward."""
    optimizers = {p: torch.optim.SGD([p], lr=0.001, momentum=0.9, fused=True) for p in network.parameters()}

    def update(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(update)


def measure_way(way: str) -> dict[str, float]:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    make, picture, classes = NETWORKS["vgg16"]
    network, images, labels = make(), torch.randn(BATCH, *picture), torch.randint(0, classes, (BATCH,))
    if way == "channels_last":
        network, images = (part.to(memory_format=torch.channels_last) for part in (network, images))
    if way.startswith("optimized"):
        network = switchgrad.optimize(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, fused=True)
    if way == "torch, updated in backward":
        update_by_hooks(network)
    if way == "optimized, updated in backward":
        switchgrad.train.update_in_backward(optimizer)

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(network(images), labels)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    for _ in range(2):
        step()
    optimizer.zero_grad()
    reset_peak()
    held = memory_kib("VmRSS")
    kept = loss()
    forward_peak, after_forward = memory_kib("VmHWM"), memory_kib("VmRSS")
    del kept
    optimizer.zero_grad()
    reset_peak()
    step()
    peak = memory_kib("VmHWM")
    return {
        "held_mib": held / MIB,
        "peak_mib": peak / MIB,
        "step_mib": (peak - held) / MIB,
        "forward_mib": (forward_peak - held) / MIB,
        "kept_for_backward_mib": (after_forward - held) / MIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS, help="measure one side and print JSON")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure_way(options.way)))
        return
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        command = [sys.executable, sys.argv[0], "--way", way]
        done = subprocess.run(command, env=os.environ | RETURNED, stdout=subprocess.PIPE, text=True, check=True)
        rows.append({"memory": "returned", "case": f"vgg16 batch {BATCH}: {way}", **json.loads(done.stdout)})
    base = rows[0]
    for row in rows:
        for name in ("peak", "step", "kept_for_backward"):
            row[f"{name}_of_torch"] = row[f"{name}_mib"] / base[f"{name}_mib"]
        row["wanted"] = WANTED if "optimized" in row["case"] else None
    result = {"benchmark": "step_memory", "environment": environment(), "rows": rows}
    (RESULTS / "step_memory.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
