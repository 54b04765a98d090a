"""A whole training step: with torch.nn's layers, with our pooling in them, and through `optimize`.

    python benchmarks/step.py --compile                       # all rows, both allocators, writes results/step.json
    python benchmarks/step.py --compile --only lenet --update # some rows, put in the place of the older ones

Forward, loss, backward and SGD with momentum (PyTorch's fused one, for every side) on one batch. All start from the
same weights, and a row is timed only after losses and gradients agree. ``tuned`` is `optimize` with ``tune=True``,
where that was asked for (--tune); what it measured is kept on a file in the folder SWITCHGRAD_TIMINGS (else the
temporary one), which a new measurement should begin without.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import switchgrad
from measure import interleaved, is_asked_for, run
from networks import NETWORKS

TIMINGS = Path(os.environ.get("SWITCHGRAD_TIMINGS", tempfile.gettempdir())) / "switchgrad-step-timings.json"


@dataclass(frozen=True)
class Case:
    """A network, a batch, and the times as fast as the fastest of PyTorch's ways that are wanted of `optimize`.

    ``pooling`` is what is wanted of the same network with our pooling layers, against PyTorch's eager layers.
    """

    network: str
    batch: int
    wanted: float
    pooling: float | None = None

    @property
    def name(self) -> str:
        return f"{self.network} batch {self.batch}"


CASES = [
    Case("convnet", 128, 4.0, 1.25),
    Case("lenet5", 128, 3.5),
    Case("lenet5", 32, 2.0),
    Case("vgg_cifar", 64, 1.5),
    Case("alexnet", 16, 1.5),
    Case("resnet18", 8, 1.3),
]


def with_pooling(network: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> nn.Module:
    """The same network with max pooling of another class."""
    twin = copy.deepcopy(network)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if type(child) is old:
                pool: Any = child
                setattr(module, name, new(pool.kernel_size, pool.stride, pool.padding))
    return twin


def stepper(network: nn.Module, images: Tensor, labels: Tensor, called: Any = None) -> Callable[[], Tensor]:
    """A step of ``network``, which is called as ``called`` (itself compiled, say)."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, fused=True)
    forward = network if called is None else called

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The loss and its gradients, without dropout, whose masks differ from side to side."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    loss = nn.functional.cross_entropy(network(images), labels)
    found = [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))]
    network.train()
    return found


def check(name: str, ours: list[Tensor], theirs: list[Tensor], exact: list[Tensor]) -> tuple[float, float]:
    """The largest relative errors against float64, ours and PyTorch's; stop where ours are out of all proportion.

    Deep networks amplify rounding (a ReLU at 0 flips), PyTorch's as well: 8 times its error is let pass, and 1e-4.
    """
    worst = [0.0, 0.0]
    for a, b, true in zip(ours, theirs, exact, strict=True):
        mine, peer = ((found - true).norm() / true.norm().clamp_min(1e-12) for found in (a, b))
        if not mine <= 8 * peer + 1e-4:
            raise SystemExit(
                f"{name}: gradients differ from PyTorch's: relative error {mine:.3g}, PyTorch's {peer:.3g}"
            )
        worst = [max(worst[0], mine.item()), max(worst[1], peer.item())]
    return worst[0], worst[1]


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    make, picture, classes = NETWORKS[case.network]
    images, labels = torch.randn(case.batch, *picture), torch.randint(0, classes, (case.batch,))
    last_images = images.contiguous(memory_format=torch.channels_last)
    network = with_pooling(make(), switchgrad.nn.MaxPool2d, nn.MaxPool2d)
    pooling = with_pooling(network, nn.MaxPool2d, switchgrad.nn.MaxPool2d)
    optimized = switchgrad.optimize(copy.deepcopy(network))
    tuned = switchgrad.optimize(copy.deepcopy(network), images, tune=TIMINGS) if options.tune else None
    theirs = gradients(copy.deepcopy(network), images, labels)
    exact = gradients(copy.deepcopy(network).double(), images.double(), labels)
    errors = [
        check(case.name, gradients(copy.deepcopy(ours), images, labels), theirs, exact)
        for ours in (pooling, optimized, *([] if tuned is None else [tuned]))
    ]
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    ways = {
        "ours": stepper(pooling, images, labels),
        "optimized": stepper(optimized, images, labels),
        "torch": stepper(network, images, labels),
        "channels_last": stepper(last, last_images, labels),
    }
    if tuned is not None:
        ways["tuned"] = stepper(tuned, images, labels)
    if options.compile:
        twin = copy.deepcopy(network)
        ways["compile"] = stepper(twin, images, labels, torch.compile(twin))
    times = interleaved(ways, len(ways) * options.seconds)
    peers = [times[name] for name in ("torch", "channels_last", "compile") if name in times]
    best = min(times[name] for name in ("optimized", "tuned") if name in times)
    ratio = times["torch"] / times["ours"]
    return {
        "case": case.name,
        "ours_ms": times["ours"],
        "torch_ms": times["torch"],
        "torch_channels_last_ms": times["channels_last"],
        "torch_compile_ms": times.get("compile"),
        "times_torch": ratio,
        "wanted": case.pooling,
        "optimized_ms": times["optimized"],
        "tuned_ms": times.get("tuned"),
        "times_fastest": min(peers) / best,
        "wanted_optimized": case.wanted,
        "gradient_error": max(mine for mine, _ in errors),
        "torch_gradient_error": errors[0][1],
        "met": min(peers) / best >= case.wanted and (case.pooling is None or ratio >= case.pooling),
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("step", measure)
