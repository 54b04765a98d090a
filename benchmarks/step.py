"""A whole training step of small networks, once with torch.nn.MaxPool2d and once with ours: what the change buys.

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

CASES = {"convnet": ((128, 1, 28, 28), 1.25), "lenet5": ((128, 1, 28, 28), None)}


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
    torch.manual_seed(0)  # the same dropout on both sides
    loss = nn.functional.cross_entropy(network(images), labels)
    return list(torch.autograd.grad(loss, list(network.parameters())))


def measure_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    shape, wanted = CASES[name]
    torch.manual_seed(0)
    images, labels = torch.randn(shape), torch.randint(0, 10, shape[:1])
    network = switchgrad.models.create(name, num_classes=10, in_channels=shape[1], input_size=shape[2:])
    twin = with_torch_pooling(network)
    pairs = zip(gradients(network, images, labels), gradients(twin, images, labels), strict=True)
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs):
        raise SystemExit(f"{name}: gradients differ between our pooling and PyTorch's")
    last = copy.deepcopy(twin).to(memory_format=torch.channels_last)
    times = interleaved(
        {
            "ours": stepper(network, images, labels),
            "torch": stepper(twin, images, labels),
            "channels_last": stepper(last, images.contiguous(memory_format=torch.channels_last), labels),
        },
        4 * options.seconds,
    )
    ratio = times["torch"] / times["ours"]
    return {
        "case": f"{name} batch {shape[0]}",
        "ours_ms": times["ours"],
        "torch_ms": times["torch"],
        "torch_channels_last_ms": times["channels_last"],
        "times_torch": ratio,
        "wanted": wanted,
        "met": None if wanted is None else ratio >= wanted,
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(name, options) for name in CASES if options.only in name]


if __name__ == "__main__":
    run("step", measure)
