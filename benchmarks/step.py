"""A whole training step of small networks: with torch.nn's layers, with our pooling in them, and through `optimize`.

    python benchmarks/step.py                 # both allocators, writes results/step.json

Forward, loss, backward and SGD with momentum on one batch; both networks start from the same weights, and a row is
timed only after their first losses and gradients agree.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import switchgrad
from measure import interleaved, run

# Network, shape of a batch, times as fast that is wanted of our pooling against PyTorch's layers as they are, and of
# `optimize` against the faster layout.
CASES = [
    ("convnet", (128, 1, 28, 28), 1.25, 4.0),
    ("lenet5", (128, 1, 28, 28), None, 3.5),
    ("lenet5", (32, 1, 28, 28), None, 2.0),
]


def with_torch_pooling(network: nn.Module) -> nn.Module:
    """The same network with PyTorch's max pooling."""
    twin = copy.deepcopy(network)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, switchgrad.nn.MaxPool2d):
                setattr(module, name, nn.MaxPool2d(child.kernel_size, child.stride, child.padding))
    return twin


def stepper(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    loss = nn.functional.cross_entropy(network(images), labels)
    return list(torch.autograd.grad(loss, list(network.parameters())))


def measure_case(
    name: str, shape: tuple[int, ...], wanted: float | None, wanted_optimized: float, options: argparse.Namespace
) -> dict[str, Any]:
    torch.manual_seed(0)
    images, labels = torch.randn(shape), torch.randint(0, 10, shape[:1])
    network = switchgrad.models.create(name, num_classes=10, in_channels=shape[1], input_size=shape[2:])
    twin = with_torch_pooling(network)
    optimized = switchgrad.optimize(copy.deepcopy(twin))
    theirs = gradients(twin.eval(), images, labels)  # without dropout, whose masks differ
    for ours in (network.eval(), optimized.eval()):
        pairs = zip(gradients(ours, images, labels), theirs, strict=True)
        if not all((a - b).norm() <= 1e-4 * b.norm() + 1e-7 for a, b in pairs):
            raise SystemExit(f"{name}: gradients differ from those of PyTorch's layers")
    for each in (network, optimized, twin):
        each.train()
    last = copy.deepcopy(twin).to(memory_format=torch.channels_last)
    times = interleaved(
        {
            "ours": stepper(network, images, labels),
            "optimized": stepper(optimized, images, labels),
            "torch": stepper(twin, images, labels),
            "channels_last": stepper(last, images.contiguous(memory_format=torch.channels_last), labels),
        },
        4 * options.seconds,
    )
    ratio = times["torch"] / times["ours"]
    ratio_optimized = min(times["torch"], times["channels_last"]) / times["optimized"]
    met = [ratio_optimized >= wanted_optimized, *([] if wanted is None else [ratio >= wanted])]
    return {
        "case": f"{name} batch {shape[0]}",
        "ours_ms": times["ours"],
        "torch_ms": times["torch"],
        "torch_channels_last_ms": times["channels_last"],
        "times_torch": ratio,
        "wanted": wanted,
        "optimized_ms": times["optimized"],
        "times_fastest": ratio_optimized,
        "wanted_optimized": wanted_optimized,
        "met": all(met),
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(*case, options) for case in CASES if options.only in case[0]]


if __name__ == "__main__":
    run("step", measure)
