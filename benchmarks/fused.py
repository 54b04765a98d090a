"""Fused operators against the chains of PyTorch's that they stand for, and a copy of the input's bytes.

    python benchmarks/fused.py                # all rows, both allocators, writes results/fused.json
    python benchmarks/fused.py --only batch   # some rows, printed only

Both sides are called on inputs that ask for gradients and take turns; PyTorch may work in place where a model would. A
row is timed only after values and gradients agree (dropout: after the same share is kept). ``copy`` is a clone of the
input: the bytes that no operator can do without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from measure import interleaved, is_asked_for, run
from switchgrad import ops


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, ...]
    make: Callable[[Tensor], tuple[Callable[[], Tensor], Callable[[], Tensor], Sequence[Tensor]]]
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    exact: bool = True  # the same values as PyTorch's; a random mask has the same share only

    @property
    def title(self) -> str:
        form = " channels_last" if self.channels_last else ""
        return f"{self.name} {'x'.join(map(str, self.shape))} {str(self.dtype)[6:]}{form}"


def relu_pool(x: Tensor) -> Any:
    return lambda: ops.relu_max_pool2d(x, 2), lambda: F.max_pool2d(F.relu(x), 2), (x,)


def leaky_pool(x: Tensor) -> Any:
    return (
        lambda: ops.relu_max_pool2d(x, 2, negative_slope=0.1),
        lambda: F.max_pool2d(F.leaky_relu(x, 0.1), 2),
        (x,),
    )


def _norm(x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Running statistics, weight and bias for each side: the statistics are its own."""
    channels = x.shape[1]
    weight, bias = (torch.rand(channels).add_(0.5).requires_grad_() for _ in range(2))
    ours, theirs = ((torch.zeros(channels), torch.ones(channels), weight, bias) for _ in range(2))
    return ours, theirs


def batch_norm(x: Tensor) -> Any:
    mine, norm = _norm(x)
    return (
        lambda: ops.batch_norm_relu(x, *mine, True),
        lambda: F.relu(F.batch_norm(x, *norm, True), inplace=True),
        (x, *norm[2:]),
    )


def batch_norm_pool(x: Tensor) -> Any:
    mine, norm = _norm(x)
    return (
        lambda: ops.batch_norm_relu_max_pool2d(x, *mine, True, kernel_size=2),
        lambda: F.max_pool2d(F.relu(F.batch_norm(x, *norm, True), inplace=True), 2),
        (x, *norm[2:]),
    )


def evaluated_batch_norm_pool(x: Tensor) -> Any:
    mine, norm = _norm(x)
    return (
        lambda: ops.batch_norm_relu_max_pool2d(x, *mine, False, kernel_size=2),
        lambda: F.max_pool2d(F.relu(F.batch_norm(x, *norm, False), inplace=True), 2),
        (x, *norm[2:]),
    )


def loss(x: Tensor) -> Any:
    target = torch.randint(0, x.shape[1], (x.shape[0],))
    return lambda: ops.cross_entropy(x, target), lambda: F.cross_entropy(x, target), (x,)


def smoothed_loss(x: Tensor) -> Any:
    target = torch.randint(0, x.shape[1], (x.shape[0],))
    return (
        lambda: ops.cross_entropy(x, target, label_smoothing=0.1),
        lambda: F.cross_entropy(x, target, label_smoothing=0.1),
        (x,),
    )


def drop(x: Tensor) -> Any:
    return lambda: ops.dropout(x, 0.5), lambda: F.dropout(x, 0.5), (x,)


def relu_drop(x: Tensor) -> Any:
    return lambda: ops.bias_relu_dropout(x, None, 0.5), lambda: F.dropout(F.relu(x), 0.5), (x,)


CASES = [
    Case("relu + pool 2x2", (32, 64, 112, 112), relu_pool),
    Case("relu + pool 2x2", (32, 64, 112, 112), relu_pool, channels_last=True),
    Case("relu + pool 2x2", (128, 32, 26, 26), relu_pool),
    Case("relu + pool 2x2", (32, 64, 56, 56), relu_pool, torch.bfloat16),
    Case("leaky relu + pool 2x2", (32, 64, 56, 56), leaky_pool),
    Case("batch norm + relu + pool 2x2", (32, 64, 56, 56), batch_norm_pool),
    Case("batch norm + relu + pool 2x2", (32, 64, 56, 56), batch_norm_pool, channels_last=True),
    Case("batch norm + relu + pool 2x2", (64, 128, 16, 16), batch_norm_pool),
    Case("batch norm + relu + pool 2x2", (64, 512, 4, 4), batch_norm_pool, channels_last=True),
    Case("batch norm + relu + pool 2x2", (32, 64, 56, 56), batch_norm_pool, torch.bfloat16),
    Case("batch norm + relu + pool 2x2, evaluation", (32, 64, 56, 56), evaluated_batch_norm_pool),
    Case("batch norm + relu", (32, 64, 56, 56), batch_norm),
    Case("batch norm + relu", (32, 64, 56, 56), batch_norm, channels_last=True),
    Case("batch norm + relu", (64, 256, 8, 8), batch_norm),
    Case("batch norm + relu", (64, 512, 4, 4), batch_norm, channels_last=True),
    Case("batch norm + relu", (32, 64, 56, 56), batch_norm, torch.bfloat16),
    Case("cross entropy", (128, 10), loss),
    Case("cross entropy", (64, 1000), loss),
    Case("cross entropy, smoothed", (64, 1000), smoothed_loss),
    Case("dropout", (128, 1600), drop, exact=False),
    Case("dropout", (16, 4096), drop, exact=False),
    Case("dropout", (32, 64, 56, 56), drop, exact=False),
    Case("relu + dropout", (128, 1600), relu_drop, exact=False),
]


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(case.shape).to(case.dtype)
    if case.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    ours, theirs, leaves = case.make(x.requires_grad_())
    y, y_torch = ours(), theirs()
    grad = torch.randn_like(y)
    check(case, y, y_torch, leaves, grad)
    forward = interleaved({"ours": ours, "torch": theirs, "copy": lambda: x.detach().clone()}, options.seconds)
    backward = interleaved(
        {
            "ours": lambda: torch.autograd.grad(y, leaves, grad, retain_graph=True),
            "torch": lambda: torch.autograd.grad(y_torch, leaves, grad, retain_graph=True),
        },
        options.seconds,
    )
    both = {side: forward[side] + backward[side] for side in ("ours", "torch")}
    return {
        "case": case.title,
        "forward_ms": forward["ours"],
        "torch_ms": forward["torch"],
        "copy_ms": forward["copy"],
        "times_torch": forward["torch"] / forward["ours"],
        "times_copy": forward["ours"] / forward["copy"],
        "backward_ms": backward["ours"],
        "torch_backward_ms": backward["torch"],
        "times_torch_backward": backward["torch"] / backward["ours"],
        "times_torch_both": both["torch"] / both["ours"],
    }


def check(case: Case, y: Tensor, y_torch: Tensor, leaves: Sequence[Tensor], grad: Tensor) -> None:
    """The gate before the clock."""
    if not case.exact:
        shares = [(one != 0).double().mean().item() for one in (y, y_torch)]
        if abs(shares[0] - shares[1]) > 0.02:
            raise SystemExit(f"{case.title}: {shares[0]:.3f} of the elements are kept, PyTorch keeps {shares[1]:.3f}")
        return
    pairs = [(y, y_torch)]
    pairs += zip(*(torch.autograd.grad(out, leaves, grad, retain_graph=True) for out in (y, y_torch)), strict=True)
    # A sum that is rounded another way may lie on the other side of the ReLU's edge, and a tie of rounded numbers may
    # have another winner: few cells may differ by all they hold, and sums over a channel by such a cell.
    for got, wanted in pairs:
        share = 2e-3 if got.dim() > 1 else 2e-2
        wrong = (got.double() - wanted.double()).abs() > share * wanted.double().abs().max()
        if wrong.double().mean() > 1e-5:
            raise SystemExit(f"{case.title}: values or gradients differ from PyTorch's")


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.title, options)]


if __name__ == "__main__":
    run("fused", measure)
