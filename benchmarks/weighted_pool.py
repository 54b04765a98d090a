"""Weighted averages, blurred pooling and trainable subsampling against depthwise convolutions of PyTorch's.

    python benchmarks/weighted_pool.py                                     # all rows, both allocators, writes JSON
    python benchmarks/weighted_pool.py --only "blur 16x64x56x56" --compile --update   # with torch.compile as well

The peer pads (blur), convolves every channel with the same small filter and divides by the sum of the weights that lie
in the map (weighted averages; that sum is worked out once, before the clock). It is timed on the same tensor, on one in
the other layout, and compiled. The limits are a copy of as many bytes as the forward reads and writes, and one number
written into every cell of a new gradient. A row is timed only after its values and gradient agree with the peer's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from measure import interleaved, is_asked_for, run
from pool_family import backward_of, in_other_layout
from switchgrad import nn, ops

Function = Callable[[Tensor], Tensor]
CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
SMALL = "so few cells that the calls through Python are most of the time"
OTHER = "faster is a convolution of a tensor in the other layout, where channels fill the lanes"
SHORT = "the sums are one pass, in which rows of 14 fill half a vector, coefficient and bias others"
PASSES = "the sums are one pass, coefficient and bias two more over the pooled maps; the convolution has one"


@dataclass(frozen=True)
class Case:
    kind: str
    shape: tuple[int, ...]
    size: int
    stride: int = 2
    channels_last: bool = False

    @property
    def name(self) -> str:
        form = " channels_last" if self.channels_last else ""
        return f"{self.kind} {'x'.join(map(str, self.shape))} {self.size}/{self.stride}{form}"

    @property
    def dims(self) -> int:
        return len(self.shape) - 2

    def input(self) -> Tensor:
        x = torch.randn(self.shape)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def of_dims(self, module: Any, name: str) -> Any:
        return getattr(module, f"{name}{self.dims}d")

    def every_axis(self, row: Tensor) -> Tensor:
        """The products of a row of weights along all axes."""
        made = row
        for _ in range(self.dims - 1):
            made = made.unsqueeze(-1) * row
        return made


PLACES = [((16, 64, 56, 56), False), ((16, 64, 56, 56), True), ((8, 32, 112, 112), False), ((32, 256, 14, 14), False)]
SIGNAL, VOLUME = (64, 32, 5000), (4, 32, 16, 56, 56)
CASES = [
    *(
        Case(kind, shape, size, channels_last=last)
        for kind in ("blur", "gaussian")
        for shape, last in PLACES
        for size in (3, 5)
    ),
    *(Case("given", shape, 3, channels_last=last) for shape, last in PLACES),
    *(Case("trainable subsampling", shape, 2, channels_last=last) for shape, last in PLACES),
    *(Case(kind, SIGNAL, size) for kind, size in (("blur", 3), ("gaussian", 5), ("given", 5))),
    Case("trainable subsampling", SIGNAL, 2),
    *(Case(kind, VOLUME, size) for kind, size in (("blur", 3), ("gaussian", 3), ("given", 3))),
    Case("trainable subsampling", VOLUME, 2),
    Case("gaussian", (1, 6, 28, 28), 3),
]


def depthwise(case: Case, kernel: Tensor, padding: int, bias: Tensor | None = None) -> Function:
    """Every channel convolved with a filter; ``kernel`` is one for all of them or has one for each."""
    whole = kernel if kernel.dim() == case.dims + 1 else kernel.expand(case.shape[1], *kernel.shape)
    filters, run = whole.unsqueeze(1).contiguous(), CONVOLUTIONS[case.dims]
    return lambda x: run(x, filters, bias, stride=case.stride, padding=padding, groups=case.shape[1])


def blur(case: Case) -> tuple[Function, Function]:
    row = torch.tensor([math.comb(case.size - 1, i) / 2 ** (case.size - 1) for i in range(case.size)])
    pads, convolve = (case.size // 2,) * 2 * case.dims, depthwise(case, case.every_axis(row), 0)
    pool = case.of_dims(ops, "blur_pool")
    return lambda x: pool(x, case.size), lambda x: convolve(functional.pad(x, pads, "reflect"))


def averaged(case: Case, kernel: Tensor) -> Function:
    convolve = depthwise(case, kernel, case.size // 2)
    seen = convolve(torch.ones(1, *case.shape[1:]))
    return lambda x: convolve(x) / seen


def gaussian(case: Case) -> tuple[Function, Function]:
    kernel = case.every_axis(torch.exp(-((torch.arange(case.size) - case.size // 2) ** 2) / 2))
    pool = case.of_dims(ops, "weighted_avg_pool")
    return lambda x: pool(x, case.size, case.stride, case.size // 2, sigma=1.0), averaged(case, kernel)


def given(case: Case) -> tuple[Function, Function]:
    kernel = torch.rand((case.size,) * case.dims)
    pool = case.of_dims(ops, "weighted_avg_pool")
    return lambda x: pool(x, case.size, case.stride, case.size // 2, weights=kernel), averaged(case, kernel)


def subsampling(case: Case) -> tuple[Function, Function]:
    layer = case.of_dims(nn, "TrainableSubsampling")(case.shape[1], case.size)
    torch.nn.init.normal_(layer.bias)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    each = (case.shape[1], *[1] * case.dims)
    kernel = layer.coefficient.reshape(each) * torch.ones((case.size,) * case.dims)
    return layer, depthwise(case, kernel, 0, layer.bias)


BOTH = {"blur": blur, "gaussian": gaussian, "given": given, "trainable subsampling": subsampling}


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    pool, peer = BOTH[case.kind](case)
    x = case.input().requires_grad_()
    y, wanted = pool(x), peer(x)
    grad = torch.randn_like(wanted)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
    slopes = [torch.autograd.grad(out, x, grad, retain_graph=True)[0] for out in (y, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)
    functions: dict[str, tuple[Function, Tensor]] = {"ours": (pool, x), "torch": (peer, x)}
    if case.dims == 2 and (other := in_other_layout(x)) is not None:
        functions["other layout"] = (peer, other)
    if options.compile:
        functions["compiled"] = (torch.compile(peer), x)
    copied = torch.empty((x.nbytes + y.nbytes) // 2, dtype=torch.uint8)
    forward = interleaved(
        {name: lambda f=f, at=at: f(at) for name, (f, at) in functions.items()} | {"copy": copied.clone},
        options.seconds,
    )
    backward = interleaved(
        {name: backward_of(f(at), at, grad) for name, (f, at) in functions.items()}
        | {"fill": lambda: torch.full_like(x.detach(), 1.0)},
        options.seconds,
    )
    return row(case, forward, backward)


def row(case: Case, forward: dict[str, float], backward: dict[str, float]) -> dict[str, Any]:
    made: dict[str, Any] = {"case": case.name}
    for end, times in (("", forward), ("_backward", backward)):
        peers = {name: times.get(name) for name in ("torch", "other layout", "compiled")}
        made[f"{'backward' if end else 'forward'}_ms"] = times["ours"]
        made |= {f"{name.replace(' ', '_')}{end}_ms": value for name, value in peers.items()}
        made["fill_ms" if end else "copy_ms"] = times["fill" if end else "copy"]
        made[f"times_fastest{end}"] = min(value for value in peers.values() if value is not None) / times["ours"]
    made["reason"] = why(case, made)
    return made


def why(case: Case, made: dict[str, Any]) -> str | None:
    """What bounds a row in which one of PyTorch's is faster."""
    if min(made["times_fastest"], made["times_fastest_backward"]) >= 1:
        return None
    if math.prod(case.shape) < 100_000:
        return SMALL
    if case.kind == "trainable subsampling":
        return SHORT if case.shape[-1] < 16 else PASSES
    return OTHER if case.dims == 2 and not case.channels_last else None


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("weighted_pool", measure)
