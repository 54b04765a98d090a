"""Inference of whole networks: PyTorch eager in both layouts, torch.compile, ONNX Runtime, and ours.

    python benchmarks/inference.py                            # all rows, both allocators, writes results/inference.json
    python benchmarks/inference.py --only alexnet --update    # some rows, put in the place of the older ones

Evaluation mode without gradients. ``ours`` is `optimize`, ``tuned`` the same with ``tune=True``. A row is timed only
after all sides agree with float64. ONNX Runtime has a column where it is installed.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import switchgrad
from measure import THREADS, interleaved, is_asked_for, run
from networks import NETWORKS
from step import with_pooling

NAMES = ("convnet", "lenet5", "vgg_cifar", "alexnet", "resnet18")
BATCHES = (1, 64)
TIMINGS = Path(os.environ.get("SWITCHGRAD_TIMINGS", tempfile.gettempdir())) / "switchgrad-inference-timings.json"


def onnx_session(network: nn.Module, images: Tensor) -> Callable[[], Any] | None:
    """A call of ONNX Runtime with as many threads, or None where it is not installed."""
    if not (importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx")):
        return None
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (images,), path, dynamo=False, input_names=["x"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {"x": images.numpy()}
    return lambda: torch.from_numpy(session.run(None, given)[0])


def measure_case(name: str, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    make, picture, _ = NETWORKS[name]
    images = torch.randn(batch, *picture)
    last_images = images.contiguous(memory_format=torch.channels_last)
    network = with_pooling(make(), switchgrad.nn.MaxPool2d, nn.MaxPool2d).eval()
    for module in network.modules():  # statistics as of a network that has seen data
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    compiled = torch.compile(copy.deepcopy(network))
    ours = switchgrad.optimize(network)
    tuned = switchgrad.optimize(network, images, tune=TIMINGS).eval()
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(images),
        "tuned": lambda: tuned(images),
        "torch": lambda: network(images),
        "channels_last": lambda: last(last_images),
        "compile": lambda: compiled(images),
    }
    session = onnx_session(network, images)
    # The threads of ONNX Runtime wait in a loop for their next call, tens of milliseconds long: it takes no turns.
    alone = {} if session is None else {"onnx": session}
    with torch.no_grad():
        exact = network.double()(images.double())
        network.float()
        for way, call in (*ways.items(), *alone.items()):
            error = (call() - exact).norm() / exact.norm()
            if not error <= 1e-4:
                raise SystemExit(f"{name} batch {batch}: {way} differs from float64 by {error:.3g}")
        times = interleaved(ways, len(ways) * options.seconds)
        times |= interleaved(alone, options.seconds) if alone else {}
    best = min(times["ours"], times["tuned"])
    return {
        "case": f"{name} batch {batch}",
        "torch_ms": times["torch"],
        "torch_channels_last_ms": times["channels_last"],
        "torch_compile_ms": times["compile"],
        "onnx_runtime_ms": times.get("onnx"),
        "optimized_ms": times["ours"],
        "tuned_ms": times["tuned"],
        "times_compile": times["compile"] / best,
        "times_onnx_runtime": times["onnx"] / best if "onnx" in times else None,
        "wanted": 1.0,
        "met": times["compile"] >= best,
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    cases = [(name, batch) for name in NAMES for batch in BATCHES]
    return [measure_case(*case, options) for case in cases if is_asked_for(f"{case[0]} batch {case[1]}", options)]


if __name__ == "__main__":
    run("inference", measure)
