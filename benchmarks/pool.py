"""Max pooling against PyTorch eager in the same layout, oneDNN, torch.compile and a copy of the bytes.

    python benchmarks/pool.py                 # all rows, both allocators, writes results/pool.json
    python benchmarks/pool.py --only 112      # some rows, printed only

The backward's limit is ``fill``: writing one number into every cell of a new gradient, which nobody can undercut.

Both sides are called through their public functions on an input that asks for a gradient: the forward makes what the
backward needs. A row is timed only after its values and gradient agree with PyTorch's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import switchgrad
from measure import interleaved, is_asked_for, run

ours, theirs = switchgrad.ops, torch.nn.functional


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    kernel_size: int = 2
    stride: int = 2
    padding: int = 0
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    forward_target: float | None = None  # times as fast as PyTorch
    backward_target: dict[str, float] | None = None  # the same, by allocator

    @property
    def name(self) -> str:
        form = " channels_last" if self.channels_last else ""
        shape = "x".join(map(str, self.shape))
        pad = f" pad {self.padding}" if self.padding else ""
        return f"{shape} {self.kernel_size}/{self.stride}{pad} {str(self.dtype)[6:]}{form}"


CASES = [
    Case((32, 64, 112, 112), forward_target=8, backward_target={"default": 1.3, "kept": 1.6}),
    Case((32, 256, 28, 28), forward_target=12, backward_target={"default": 3, "kept": 3}),
    Case((32, 64, 112, 112), channels_last=True, forward_target=1.5),
    Case((32, 64, 112, 112), 3, 2, 1, forward_target=8),
    Case((32, 64, 112, 112), 3, 2, 1, channels_last=True, forward_target=1.5),
    Case((32, 64, 112, 112), dtype=torch.bfloat16, forward_target=5),
    Case((32, 64, 112, 112), dtype=torch.float16, forward_target=5),
    Case((32, 64, 112, 112), dtype=torch.float64),
    Case((1, 16, 3000, 2000), 3, 2, forward_target=8),
    Case((128, 6, 28, 28), forward_target=1, backward_target={"default": 1, "kept": 1}),
    Case((32, 6, 28, 28), forward_target=1, backward_target={"default": 1, "kept": 1}),
    Case((128, 32, 26, 26)),
    Case((8, 64, 111, 111), 3, 3),
    Case((8, 64, 57, 57), 2, 1),
    Case((16, 128, 13, 13), 5, 1, 2),
    Case((64, 32, 5000), 2, 2),
    Case((4, 32, 16, 56, 56), 2, 2),
    Case((1, 1, 8, 8)),
]


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    dims = len(case.shape) - 2
    pool = {1: ours.max_pool1d, 2: ours.max_pool2d, 3: ours.max_pool3d}[dims]
    torch_pool = {1: theirs.max_pool1d, 2: theirs.max_pool2d, 3: theirs.max_pool3d}[dims]
    window = (case.kernel_size, case.stride, case.padding)
    x = torch.randn(case.shape).to(case.dtype)
    if case.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y, y_torch = pool(x, *window), torch_pool(x, *window)
    grad = torch.randn_like(y)
    check(y, y_torch, x, grad)
    forward = interleaved(
        {
            "ours": lambda: pool(x, *window),
            "torch": lambda: torch_pool(x, *window),
            "copy": lambda: x.detach().clone(),
        }
        | onednn(x, torch_pool, window),
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
    return row(case, options.memory, forward, backward)


def check(y: Tensor, y_torch: Tensor, x: Tensor, grad: Tensor) -> None:
    """The gate before the clock: the same values, and the same gradient up to the rounding of half precision."""
    (dx,), (dx_torch,) = (torch.autograd.grad(out, x, grad, retain_graph=True) for out in (y, y_torch))
    exact = x.dtype in (torch.float32, torch.float64)
    close = torch.equal(dx, dx_torch) if exact else torch.allclose(dx.float(), dx_torch.float(), rtol=2e-2, atol=2e-2)
    if not (torch.equal(y, y_torch) and close):
        raise SystemExit(f"values or gradients differ from PyTorch's for {tuple(x.shape)} {x.dtype}")


def onednn(x: Tensor, torch_pool: Any, window: tuple[int, int, int]) -> dict[str, Any]:
    """oneDNN's own pooling, through its opaque tensors (plain float32 only; conversion not counted)."""
    if x.dtype != torch.float32 or x.dim() != 4 or not x.is_contiguous():
        return {}
    opaque = x.detach().to_mkldnn().requires_grad_()
    return {"onednn": lambda: torch_pool(opaque, *window)}


def row(case: Case, memory: str, forward: dict[str, float], backward: dict[str, float]) -> dict[str, Any]:
    ratio, back = forward["torch"] / forward["ours"], backward["torch"] / backward["ours"]
    wanted, wanted_back = case.forward_target, (case.backward_target or {}).get(memory)
    met = [got >= want for got, want in ((ratio, wanted), (back, wanted_back)) if want is not None]
    return {
        "case": case.name,
        "forward_ms": forward["ours"],
        "torch_ms": forward["torch"],
        "onednn_ms": forward.get("onednn"),
        "copy_ms": forward["copy"],
        "times_torch": ratio,
        "wanted": wanted,
        "backward_ms": backward["ours"],
        "torch_backward_ms": backward["torch"],
        "times_torch_backward": back,
        "wanted_backward": wanted_back,
        "fill_ms": backward["fill"],
        "met": None if not met else all(met),
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("pool", measure)
