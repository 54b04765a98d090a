"""3x3 convolutions in Winograd's tiles against PyTorch's, forward and backward, and how much each of them rounds.

    python benchmarks/convolution.py              # all rows, both allocators, writes results/convolution.json
    python benchmarks/convolution.py --only 56x56 # some rows, printed only

Peers: PyTorch eager in both layouts; the faster one counts. Ours is measured in both layouts too: the kernels read
channels last, so that other maps are turned over on the way in and out. The limit of a dense convolution is a matrix
product, measured in the same turns; rates are given as if every tap had been multiplied. Errors are root mean squares
of the forward against float64, in units of the result's own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import switchgrad
from measure import interleaved, is_asked_for, run
from switchgrad.ops.convolution.choice import tile_for


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    size: int
    filters: int
    what: str

    @property
    def name(self) -> str:
        return f"{self.batch}x{self.channels}x{self.size}x{self.size} to {self.filters} ({self.what})"

    @property
    def multiplications(self) -> int:
        return 9 * self.batch * self.size**2 * self.filters * self.channels


CASES = [
    Case(64, 64, 32, 64, "VGG for CIFAR, 1"),
    Case(64, 64, 16, 128, "VGG for CIFAR, 2"),
    Case(64, 128, 16, 128, "VGG for CIFAR, 2"),
    Case(64, 256, 8, 256, "VGG for CIFAR, 3"),
    Case(64, 512, 4, 512, "VGG for CIFAR, 4"),
    Case(64, 16, 32, 16, "ResNet-20, 1"),
    Case(64, 32, 16, 32, "ResNet-20, 2"),
    Case(8, 64, 56, 64, "ResNet-18, 1"),
    Case(8, 128, 28, 128, "ResNet-18, 2"),
    Case(8, 256, 14, 256, "ResNet-18, 3"),
    Case(8, 512, 7, 512, "ResNet-18, 4"),
    Case(16, 192, 13, 384, "AlexNet, 3"),
    Case(4, 64, 224, 64, "VGG-16, 1"),
    Case(1, 256, 14, 256, "one picture"),
]


class Way:
    """One way of doing it, in one layout."""

    def __init__(self, function: Any, x: Tensor, weight: Tensor, layout: torch.memory_format):
        self.function, self.layout = function, layout
        self.x = x.detach().clone(memory_format=layout).requires_grad_()
        self.weight = weight.detach().clone(memory_format=layout).requires_grad_()
        self.y = self.forward()

    def forward(self) -> Tensor:
        return self.function(self.x, self.weight, padding=1)

    def backward(self, grad: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.y, (self.x, self.weight), grad, retain_graph=True)


def rms(x: Tensor) -> float:
    return float(x.detach().double().square().mean() ** 0.5)


def check(ours: Way, theirs: Way, grad: Tensor) -> None:
    """The gate before the clock: the same values and gradients up to rounding."""
    pairs = [(ours.y, theirs.y), *zip(ours.backward(grad), theirs.backward(grad), strict=True)]
    if not all(rms(a - b) <= 1e-5 * rms(b) for a, b in pairs):
        raise SystemExit("values or gradients differ from PyTorch's")


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(case.batch, case.channels, case.size, case.size).relu()
    weight = torch.randn(case.filters, case.channels, 3, 3) * (2 / (9 * case.channels)) ** 0.5
    last, planar = torch.channels_last, torch.contiguous_format
    ways = {
        "ours, channels_last": Way(switchgrad.ops.conv2d, x, weight, last),
        "ours, planar": Way(switchgrad.ops.conv2d, x, weight, planar),
        "channels_last": Way(F.conv2d, x, weight, last),
        "planar": Way(F.conv2d, x, weight, planar),
    }
    grad = torch.randn_like(ways["planar"].y)
    for name in ("ours, channels_last", "ours, planar"):
        check(ways[name], ways["planar"], grad)
    truth = F.conv2d(x.double(), weight.double(), padding=1)
    errors = {name: rms(way.y - truth) / rms(truth) for name, way in ways.items()}
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    turns: dict[str, Any] = {"product": lambda: a @ b}
    for name, way in ways.items():
        turns[f"{name} forward"] = way.forward
        turns[f"{name} backward"] = partial(way.backward, grad.contiguous(memory_format=way.layout))
    times = interleaved(turns, 2 * options.seconds)
    totals = {name: times[f"{name} forward"] + times[f"{name} backward"] for name in ways}
    peer = min("planar", "channels_last", key=lambda name: totals[name])
    ours = "ours, channels_last"
    return {
        "case": case.name,
        "tile": tile_for(ways[ours].x, ways[ours].weight, (1, 1), "auto"),
        "forward_ms": times[f"{ours} forward"],
        "backward_ms": times[f"{ours} backward"],
        "planar_ms": totals["ours, planar"],
        "peer": peer,
        "peer_forward_ms": times[f"{peer} forward"],
        "peer_backward_ms": times[f"{peer} backward"],
        "times_peer": totals[peer] / totals[ours],
        "planar_times_peer": totals["planar"] / totals["ours, planar"],
        "rate_by_product": 6 * case.multiplications / totals[ours] * times["product"] / (2 * 1024**3),
        "error": errors[ours],
        "peer_error": errors["planar"],
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("convolution", measure)
