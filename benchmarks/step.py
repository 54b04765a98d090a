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


def relative(found: list[Tensor], true: list[Tensor]) -> list[float]:
    """The relative error of the loss and of each gradient."""
    return [((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in zip(found, true, strict=True)]


def check(name: str, network: nn.Module, images: Tensor, labels: Tensor, exact: list[Tensor]) -> float:
    """The largest relative error of a gradient against float64; stop where the network is not the same function.

    In float64 the two agree to 1e-6. In float32 a ReLU within rounding of 0 may fall to the other side, and each one
    moves the gradient of a deep layer of half a million numbers by a thousandth: 2 % is let pass there, and 0.001 % of
    the loss.
    """
    twice = relative(gradients(copy.deepcopy(network).double(), images.double(), labels), exact)
    once = relative(gradients(copy.deepcopy(network), images, labels), exact)
    if not (max(twice) <= 1e-6 and once[0] <= 1e-5 and max(once) <= 0.02):
        raise SystemExit(
            f"{name}: gradients differ from PyTorch's: relative error {max(twice):.3g} in float64, {max(once):.3g} in "
            f"float32, {once[0]:.3g} of the loss"
        )
    return max(once)


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    make, picture, classes = NETWORKS[case.network]
    images, labels = torch.randn(case.batch, *picture), torch.randint(0, classes, (case.batch,))
    last_images = images.contiguous(memory_format=torch.channels_last)
    network = with_pooling(make(), switchgrad.nn.MaxPool2d, nn.MaxPool2d)
    pooling = with_pooling(network, nn.MaxPool2d, switchgrad.nn.MaxPool2d)
    optimized = switchgrad.optimize(copy.deepcopy(network))
    tuned = switchgrad.optimize(copy.deepcopy(network), images, tune=TIMINGS) if options.tune else None
    exact = gradients(copy.deepcopy(network).double(), images.double(), labels)
    peer_error = max(relative(gradients(copy.deepcopy(network), images, labels), exact))
    sides = (pooling, optimized, *([] if tuned is None else [tuned]))
    error = max(check(case.name, side, images, labels, exact) for side in sides)
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
        "gradient_error": error,
        "torch_gradient_error": peer_error,
        "met": min(peers) / best >= case.wanted and (case.pooling is None or ratio >= case.pooling),
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("step", measure)
