"""The pooling family on CUDA against PyTorch eager, torch.compile and a copy of the bytes that must be moved.

    python benchmarks/pool_gpu.py                  # all rows, writes results/pool_gpu.json
    python benchmarks/pool_gpu.py --only "max 2/2" # some rows, printed only
    python benchmarks/pool_gpu.py --dry-run        # everything once on the CPU, small, without writing

Every side is called through its public functions on an input that asks for a gradient. ``forward`` makes what the
backward needs; ``both`` is forward and backward. A row is timed only after our values and gradient agree with those of
the CPU kernels, which the tests hold to loops. ``copy`` moves as many bytes as the forward must read and write, the
switches included; ``share`` is its time by ours, so 1 is as fast as the memory. Where PyTorch does not have an operator
its columns are empty.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from measure_gpu import Machine, run
from switchgrad import ops

Pool = Callable[[Tensor], Tensor]
RESNET, DEEP, TINY = (64, 64, 112, 112), (64, 512, 14, 14), (2, 3, 12, 12)
BOXES = 512


@dataclass(frozen=True)
class Case:
    """An operator on one shape; ``exact`` says that its values are selected, not computed."""

    operator: str
    ours: Pool
    theirs: Pool | None
    shape: tuple[int, ...] = RESNET
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    exact: bool = False
    code_bytes: int = 0  # for each pooled number

    @property
    def name(self) -> str:
        layout = " channels_last" if self.channels_last else ""
        return f"{self.operator} {'x'.join(map(str, self.shape))} {str(self.dtype)[6:]}{layout}"

    def input(self, machine: Machine) -> Tensor:
        shape = TINY if machine.dry else self.shape
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(self.dtype).to(machine.name)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x


def windowed(pool: Callable[..., Tensor], kernel_size: int, stride: int, padding: int) -> Pool:
    """A pooling with its window."""
    return lambda x: pool(x, kernel_size, stride, padding)


@cache
def boxes(pictures: int, width: int, device: torch.device) -> Tensor:
    """Boxes of all sizes in the pictures of a batch."""
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(BOXES, 2, 2, generator=generator).sort(1).values * width
    which = torch.randint(pictures, (BOXES, 1), generator=generator)
    return torch.cat([which, corners.flatten(1)], 1).to(device)


def of_boxes(pool: Callable[..., Tensor], *arguments: Any) -> Pool:
    """A pooling over 7 x 7 bins of each box."""
    return lambda x: pool(x, boxes(x.shape[0], x.shape[-1], x.device), 7, *arguments)


def seeded(pool: Callable[..., Tensor]) -> Pool:
    """A random pooling that draws the same in every call and on every device."""
    return lambda x: pool(x, generator=torch.Generator().manual_seed(3))


def unpooled(pool: Callable[..., Any], unpool: Callable[..., Tensor], **keywords: bool) -> Pool:
    """Pooling and its values put back."""

    def both(x: Tensor) -> Tensor:
        values, where = pool(x, 2, **keywords)
        return unpool(values, where) if "return_switches" in keywords else unpool(values, where, 2)

    return both


def selecting() -> list[Case]:
    """Max pooling and its kin."""
    found: list[Case] = []
    for (shape, last), dtype, window in itertools.product(
        ((RESNET, False), (RESNET, True), (DEEP, False), (DEEP, True)),
        (torch.float32, torch.bfloat16),
        ((2, 2, 0), (3, 2, 1)),
    ):
        ours, theirs = windowed(ops.max_pool2d, *window), windowed(F.max_pool2d, *window)
        name = f"max {window[0]}/{window[1]}"
        found.append(Case(name, ours, theirs, shape, dtype, last, exact=True, code_bytes=1))
    return [
        *found,
        Case("global max", ops.global_max_pool, lambda x: x.amax((2, 3)), DEEP, exact=True, code_bytes=2),
        Case(
            "max 2/2, unpooled",
            unpooled(ops.max_pool2d, ops.max_unpool2d, return_switches=True),
            unpooled(F.max_pool2d, F.max_unpool2d, return_indices=True),
            exact=True,
        ),
        Case("stochastic 2/2", seeded(lambda x, **k: ops.stochastic_pool2d(x, 2, **k)), None, exact=True, code_bytes=1),
        Case("dropout 2/2", seeded(lambda x, **k: ops.max_pool_dropout2d(x, 2, **k)), None, exact=True, code_bytes=1),
        Case("roi max 7x7", of_boxes(ops.roi_pool), None, (4, 256, 100, 100), exact=True),
    ]


def averaging() -> list[Case]:
    """Average pooling and its kin."""
    return [
        Case("average 2/2", lambda x: ops.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2)),
        Case("average 2/2", lambda x: ops.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), channels_last=True),
        Case("average 3/2", lambda x: ops.avg_pool2d(x, 3, 2, 1), lambda x: F.avg_pool2d(x, 3, 2, 1)),
        Case("average 2/2", lambda x: ops.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), dtype=torch.bfloat16),
        Case("adaptive 5x5", lambda x: ops.adaptive_avg_pool2d(x, 5), lambda x: F.adaptive_avg_pool2d(x, 5), DEEP),
        Case("adaptive 1x1", lambda x: ops.adaptive_avg_pool2d(x, 1), lambda x: F.adaptive_avg_pool2d(x, 1), DEEP),
        Case("L2 2/2", lambda x: ops.lp_pool2d(x, 2, 2), lambda x: F.lp_pool2d(x, 2, 2)),
        Case("L3 2/2", lambda x: ops.lp_pool2d(x, 3, 2), None),
        Case("roi align 7x7", of_boxes(ops.roi_align, 1.0, 2, True), None, (4, 256, 100, 100)),
    ]


def with_gradient(pool: Pool, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a pooling gives, and the gradient of its square."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    values = pool(leaf)
    return values.detach(), torch.autograd.grad(values, leaf, values.detach())[0]


def check(case: Case, x: Tensor) -> None:
    """Refuse a row whose values or gradient are not those of the CPU kernels."""
    exact = x.cpu() if x.dtype == torch.float64 or case.exact else x.cpu().double()
    wanted = with_gradient(case.ours, exact)
    for what, got, right in zip(("values", "gradient"), with_gradient(case.ours, x), wanted, strict=True):
        allowed = 16 * torch.finfo(x.dtype).eps * float(right.double().abs().max())
        if case.exact and what == "values":
            allowed = 0.0
        error = float((got.cpu().double() - right.double()).abs().max())
        if not error <= allowed:
            raise SystemExit(f"{case.name}: the {what} differ from the CPU's by {error:.3g}; at most {allowed:.3g} may")


def copied(case: Case, x: Tensor) -> Callable[[], object]:
    """A copy that reads and writes as many bytes as the forward must."""
    values = case.ours(x)
    moved = (x.numel() + values.numel()) * x.element_size() + values.numel() * case.code_bytes
    source = torch.empty(moved // 2, dtype=torch.uint8, device=x.device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def forward(pool: Pool, x: Tensor) -> Callable[[], object]:
    """The pooling, taped."""
    leaf = x.detach().requires_grad_()
    return lambda: pool(leaf)


def both(pool: Pool, x: Tensor) -> Callable[[], object]:
    """Forward, and backward of a gradient that is there already."""
    leaf = x.detach().requires_grad_()
    sent = torch.ones_like(pool(leaf))
    return lambda: torch.autograd.grad(pool(leaf), leaf, sent)


def row(case: Case, machine: Machine, seconds: float) -> dict[str, Any]:
    """One line of the table."""
    x = case.input(machine)
    check(case, x)
    sides: dict[str, Pool | None] = {"ours": case.ours, "eager": case.theirs, "compiled": None}
    if case.theirs is not None and not machine.dry:
        sides["compiled"] = torch.compile(case.theirs, dynamic=False)
    found: dict[str, Any] = {"case": case.name}
    for way in (forward, both):
        for side, pool in sides.items():
            figure = None if pool is None else machine.median_ms(way(pool, x), seconds)
            found[f"{side}_{way.__name__}_ms"] = figure
    found["copy_ms"] = machine.median_ms(copied(case, x), seconds)
    found["share"] = found["copy_ms"] / found["ours_forward_ms"]
    machine.forget()
    return found


def measure(machine: Machine, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every row that was asked for."""
    return [
        row(case, machine, options.seconds / 7) for case in (*selecting(), *averaging()) if options.only in case.name
    ]


if __name__ == "__main__":
    run("pool_gpu", measure)
