"""Convolution, bias, ReLU and max pooling as one block against PyTorch's four steps, forward and backward.

    python benchmarks/conv_pool.py              # all rows, both allocators, writes results/conv_pool.json
    python benchmarks/conv_pool.py --only 13x13 # some rows, printed only
    python benchmarks/conv_pool.py --compile    # torch.compile among the peers, which takes minutes

Peers: PyTorch eager in both layouts (and torch.compile); the faster one counts. The limit is a matrix product measured
in the same turns: a dense backward cannot do more multiplications a second than that. Ours may, since it leaves out
what did not win: its rate is given as if it had done the dense work. First layers need no gradient of their input.
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


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    padding: int = 0
    stride: int = 1
    pool: tuple[int, int] = (2, 2)
    wanted: float = 2.0
    what: str = ""

    @property
    def name(self) -> str:
        shape = f"{self.batch}x{self.channels}x{self.size}x{self.size}"
        block = f"{self.kernel}x{self.kernel}/{self.stride} to {self.filters}, pool {self.pool[0]}/{self.pool[1]}"
        return f"{shape} {block}{self.what and f' ({self.what})'}"

    @property
    def first_layer(self) -> bool:
        return self.channels <= 3

    @property
    def multiplications(self) -> int:
        out = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        return self.batch * out * out * self.filters * self.channels * self.kernel**2


CASES = [
    Case(128, 32, 13, 64, 3, wanted=3, what="convnet 2"),
    Case(128, 1, 28, 32, 3, what="convnet 1"),
    Case(64, 3, 32, 64, 3, 1, what="CIFAR first"),
    Case(128, 1, 28, 6, 5, 2, what="LeNet C1"),
    Case(128, 6, 14, 16, 5, what="LeNet C3"),
    Case(64, 64, 16, 128, 3, 1),
    Case(64, 128, 8, 256, 3, 1),
    Case(16, 3, 224, 64, 11, 2, 4, (3, 2), what="AlexNet 1"),
    Case(16, 64, 27, 192, 5, 2, 1, (3, 2), what="AlexNet 2"),
    Case(64, 16, 32, 20, 5, 2, what="20 filters of 5x5"),
]


class Block:
    """One way of doing it: a function of input, weight and bias in a layout."""

    def __init__(self, case: Case, function: Any, tensors: tuple[Tensor, Tensor, Tensor], layout: torch.memory_format):
        x, weight, bias = (t.detach().clone() for t in tensors)
        self.function, self.layout = function, layout
        self.x = x.contiguous(memory_format=layout).requires_grad_(not case.first_layer)
        self.weight = weight.contiguous(memory_format=layout).requires_grad_()
        self.bias = bias.requires_grad_()
        self.wanted = [t for t in (self.x, self.weight, self.bias) if t.requires_grad]
        self.y = self.forward()

    def forward(self) -> Tensor:
        return self.function(self.x, self.weight, self.bias)

    def backward(self, grad: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.y, self.wanted, grad, retain_graph=True)


def blocks(case: Case, compiled: bool, dtype: torch.dtype = torch.float32) -> dict[str, Block]:
    def steps(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(F.conv2d(x, weight, bias, case.stride, case.padding)), *case.pool)

    def fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        size, stride = case.pool
        return switchgrad.ops.conv_relu_max_pool2d(
            x, weight, bias, stride=case.stride, padding=case.padding, pool_size=size, pool_stride=stride
        )

    torch.manual_seed(0)
    fan_in = case.channels * case.kernel**2
    weight = torch.randn(case.filters, case.channels, case.kernel, case.kernel) / fan_in**0.5
    tensors = (torch.randn(case.batch, case.channels, case.size, case.size), weight, torch.randn(case.filters) * 0.1)
    tensors = tuple(t.to(dtype) for t in tensors)
    last, planar = torch.channels_last, torch.contiguous_format
    ways = {
        "ours": Block(case, fused, tensors, last),
        "planar": Block(case, steps, tensors, planar),
        "channels_last": Block(case, steps, tensors, last),
    }
    if compiled:
        ways["compile"] = Block(case, torch.compile(steps), tensors, last)
    return ways


def agree(ours: Block, theirs: Block, grad: Tensor, of_values: float, of_gradients: float) -> bool:
    pairs = zip(ours.backward(grad), theirs.backward(grad), strict=True)
    near = [(a - b).norm() <= of_gradients * b.norm() for a, b in pairs]
    return bool((ours.y - theirs.y).norm() <= of_values * theirs.y.norm()) and all(near)


def check(ways: dict[str, Block], in_double: dict[str, Block], grad: Tensor) -> None:
    """The gate before the clock: the same function in float64; in float32 the same but for winners moved by rounding.

    Where two outputs of a window differ by less than their rounding, either may win, and its gradient moves with it.
    """
    same = agree(in_double["ours"], in_double["planar"], grad.double(), 1e-12, 1e-12)
    if not same or not agree(ways["ours"], ways["planar"], grad, 1e-5, 1e-2):
        raise SystemExit("values or gradients differ from PyTorch's")


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    ways = blocks(case, options.compile)
    grad = torch.randn_like(ways["ours"].y)
    check(ways, blocks(case, False, torch.float64), grad)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    turns: dict[str, Any] = {"product": lambda: a @ b}
    for name, way in ways.items():
        turns[f"{name} forward"] = way.forward
        turns[f"{name} backward"] = partial(way.backward, grad.contiguous(memory_format=way.layout))
    times = interleaved(turns, 2 * options.seconds)
    totals = {name: times[f"{name} forward"] + times[f"{name} backward"] for name in ways}
    fastest = min((name for name in ways if name != "ours"), key=lambda name: totals[name])
    passes = 1 if case.first_layer else 2
    rate = 2 * passes * case.multiplications / times["ours backward"] / 1e6
    product = 2 * 1024**3 / times["product"] / 1e6
    ratio = totals[fastest] / totals["ours"]
    return {
        "case": case.name,
        "forward_ms": times["ours forward"],
        "backward_ms": times["ours backward"],
        "peer": fastest,
        "peer_forward_ms": times[f"{fastest} forward"],
        "peer_backward_ms": times[f"{fastest} backward"],
        "times_peer": ratio,
        "wanted": case.wanted,
        "product_gflops": product,
        "backward_gflops": rate,
        "backward_by_product": rate / product,
        "met": ratio >= case.wanted,
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("conv_pool", measure)
