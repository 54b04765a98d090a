"""Average, Lp and adaptive pooling against PyTorch eager in the same layout, oneDNN, and a copy of the bytes.

    python benchmarks/avg_pool.py                 # all rows, both allocators, writes results/avg_pool.json
    python benchmarks/avg_pool.py --only 112      # some rows, printed only

``copy`` is a clone of the input, the forward's limit; ``fill`` writes one number into every cell of a new gradient, the
backward's. A row is timed only after its values and gradient agree with PyTorch's. Rows that lose stay, with
the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import switchgrad
from measure import interleaved, run

ours, theirs = switchgrad.ops, torch.nn.functional
SMALL = "a call through Python's autograd costs more than pooling so few cells"
ONE_WINDOW = "maps of one window: what is done for every row and window is not spread over many cells"
COMPOSED = "PyTorch's own kernel finds the winners, and a gather takes their numbers once more"
WIDE = "the backward of max pooling looks at every cell; in wide windows a scatter to the few winners does less"
COPY = "as fast as a copy of the input: memory is the limit"
EQUAL = "equal within the noise"
NARROW = "bound by memory, and the order in which pixels are read is not yet the best"


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    window: tuple[Any, ...] = (2, 2)
    kind: str = "avg"  # avg, lp, adaptive_avg, adaptive_max
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    wanted: float = 1.0  # times as fast as PyTorch, forward
    wanted_backward: float = 1.0
    reason: str | None = None  # why it may lose

    @property
    def name(self) -> str:
        form = " channels_last" if self.channels_last else ""
        shape = "x".join(map(str, self.shape))
        return f"{self.kind} {shape} {'/'.join(map(str, self.window))} {str(self.dtype)[6:]}{form}"


CASES = [
    Case((32, 64, 112, 112), wanted=5, wanted_backward=4, reason=COPY),
    Case((32, 64, 112, 112), channels_last=True, reason=NARROW),
    Case((32, 64, 112, 112), (3, 2, 1)),
    Case((32, 64, 112, 112), (3, 2, 1), channels_last=True, reason=NARROW),
    Case((32, 256, 28, 28), wanted=5, wanted_backward=4),
    Case((32, 64, 56, 56), dtype=torch.bfloat16),
    Case((32, 64, 56, 56), dtype=torch.float16),
    Case((32, 64, 56, 56), dtype=torch.float64),
    Case((128, 6, 28, 28)),
    Case((8, 64, 57, 57), (3, 1, 1)),
    Case((16, 128, 13, 13), (5, 1, 2)),
    Case((32, 512, 7, 7), (7, 7), reason=ONE_WINDOW),
    Case((32, 512, 7, 7), (7, 7), channels_last=True, reason=ONE_WINDOW),
    Case((64, 32, 5000)),
    Case((64, 32, 5000), (5, 1, 2)),
    Case((4, 32, 16, 56, 56)),
    Case((1, 1, 8, 8), reason=SMALL),
    Case((32, 64, 56, 56), (2, 2), "lp"),
    Case((32, 64, 55, 53), (7,), "adaptive_avg", reason=EQUAL),
    Case((32, 512, 14, 14), (1,), "adaptive_avg", reason=ONE_WINDOW),
    Case((32, 64, 56, 56), (7,), "adaptive_max", reason=WIDE),
    Case((8, 64, 55, 53), (7,), "adaptive_max", reason=COMPOSED),
]


def functions(case: Case) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Our pooling and PyTorch's."""
    dims = len(case.shape) - 2
    name = f"{case.kind}_pool{dims}d"
    arguments = (2, *case.window) if case.kind == "lp" else case.window
    mine, other = getattr(ours, name), getattr(theirs, name)
    return lambda x: mine(x, *arguments), lambda x: other(x, *arguments)


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    pool, torch_pool = functions(case)
    x = torch.randn(case.shape).to(case.dtype)
    if case.kind == "lp":
        x = x.abs()  # where PyTorch is right
    if case.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y, y_torch = pool(x), torch_pool(x)
    grad = torch.randn_like(y)
    check(y, y_torch, x, grad)
    forward = interleaved(
        {"ours": lambda: pool(x), "torch": lambda: torch_pool(x), "copy": lambda: x.detach().clone()}
        | onednn(case, x, torch_pool),
        options.seconds,
    )
    backward = interleaved(
        {
            "ours": lambda: torch.autograd.grad(y, x, grad, retain_graph=True),
            "torch": lambda: torch.autograd.grad(y_torch, x, grad, retain_graph=True),
            "fill": lambda: torch.full_like(x.detach(), 1.0),
        },
        options.seconds,
    )
    return row(case, forward, backward)


def check(y: Tensor, y_torch: Tensor, x: Tensor, grad: Tensor) -> None:
    """The gate before the clock: the same values and gradient up to rounding."""
    slopes = [torch.autograd.grad(out, x, grad, retain_graph=True)[0] for out in (y, y_torch)]
    loose = 2e-2 if x.dtype.itemsize == 2 else 1e-4
    for mine, other in ((y, y_torch), slopes):
        if not torch.allclose(mine.float(), other.float(), rtol=loose, atol=loose):
            raise SystemExit(f"values or gradients differ from PyTorch's for {tuple(x.shape)} {x.dtype}")


def onednn(case: Case, x: Tensor, torch_pool: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """oneDNN's own pooling, through its opaque tensors (plain float32 only; conversion not counted)."""
    if case.kind != "avg" or x.dtype != torch.float32 or x.dim() != 4 or case.channels_last:
        return {}
    opaque = x.detach().to_mkldnn()
    return {"onednn": lambda: torch_pool(opaque)}


def row(case: Case, forward: dict[str, float], backward: dict[str, float]) -> dict[str, Any]:
    ratio, back = forward["torch"] / forward["ours"], backward["torch"] / backward["ours"]
    met = ratio >= case.wanted and back >= case.wanted_backward
    return {
        "case": case.name,
        "forward_ms": forward["ours"],
        "torch_ms": forward["torch"],
        "onednn_ms": forward.get("onednn"),
        "copy_ms": forward["copy"],
        "times_torch": ratio,
        "wanted": case.wanted,
        "backward_ms": backward["ours"],
        "torch_backward_ms": backward["torch"],
        "fill_ms": backward["fill"],
        "times_torch_backward": back,
        "wanted_backward": case.wanted_backward,
        "met": met,
        "reason": None if met else case.reason,
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if options.only in case.name]


if __name__ == "__main__":
    run("avg_pool", measure)
