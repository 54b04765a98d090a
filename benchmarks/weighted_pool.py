"""Blurred and weighted average pooling against what one writes in PyTorch: a padded map and a depthwise convolution.

    python benchmarks/weighted_pool.py                 # all rows, both allocators, writes results/weighted_pool.json
    python benchmarks/weighted_pool.py --only blur     # some rows, printed only

A row is timed only after its values and gradient agree with the composition's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from measure import interleaved, run
from switchgrad import ops

SHAPES = [((16, 64, 56, 56), False), ((16, 64, 56, 56), True), ((8, 32, 112, 112), False), ((32, 256, 14, 14), False)]


def blurred(channels: int, size: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Ours, and a reflected map with a depthwise convolution."""
    row = torch.tensor([math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)])
    kernel = torch.outer(row, row).expand(channels, 1, size, size).contiguous()
    pads = (size // 2,) * 4

    def composed(x: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, pads, "reflect"), kernel, stride=2, groups=channels)

    return lambda x: ops.blur_pool2d(x, size), composed


def weighted(channels: int, size: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Ours, and the quotient of two convolutions."""
    row = torch.exp(-((torch.arange(size) - size // 2) ** 2) / 2)
    kernel = torch.outer(row, row)
    many = kernel.expand(channels, 1, size, size).contiguous()

    def composed(x: Tensor) -> Tensor:
        sums = functional.conv2d(x, many, stride=2, padding=size // 2, groups=channels)
        ones = torch.ones(1, 1, *x.shape[2:])
        return sums / functional.conv2d(ones, kernel[None, None], stride=2, padding=size // 2)

    return lambda x: ops.weighted_avg_pool2d(x, size, 2, size // 2, sigma=1.0), composed


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name, make in (("blur", blurred), ("weighted", weighted)):
        for shape, channels_last in SHAPES:
            for size in (3, 5):
                form = " channels_last" if channels_last else ""
                case = f"{name} {'x'.join(map(str, shape))} {size}x{size}/2{form}"
                if options.only in case:
                    rows.append(measure_case(case, make(shape[1], size), shape, channels_last, options))
    return rows


def measure_case(
    case: str,
    both: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    shape: tuple[int, ...],
    channels_last: bool,
    options: argparse.Namespace,
) -> dict[str, Any]:
    x = torch.randn(shape)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    mine, other = both
    pooled, theirs = mine(x), other(x)
    grad = torch.randn_like(pooled)
    slopes = [torch.autograd.grad(y, x, grad, retain_graph=True)[0] for y in (pooled, theirs)]
    torch.testing.assert_close(pooled, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)
    forward = interleaved({"ours": lambda: mine(x), "torch": lambda: other(x)}, options.seconds)
    backward = interleaved(
        {
            "ours": lambda: torch.autograd.grad(pooled, x, grad, retain_graph=True),
            "torch": lambda: torch.autograd.grad(theirs, x, grad, retain_graph=True),
        },
        options.seconds,
    )
    return {
        "case": case,
        "forward_ms": forward["ours"],
        "torch_ms": forward["torch"],
        "times_torch": forward["torch"] / forward["ours"],
        "backward_ms": backward["ours"],
        "torch_backward_ms": backward["torch"],
        "times_torch_backward": backward["torch"] / backward["ours"],
    }


if __name__ == "__main__":
    run("weighted_pool", measure)
