"""Fully connected layers with a ReLU against PyTorch's: forward, the input's gradient, the weight's with the bias's.

    python benchmarks/linear.py                # all rows, both allocators, writes results/linear.json
    python benchmarks/linear.py --only "16 x"  # some rows, printed only

Ours is the kernels (``algorithm="streamed"``) also where ``ops.linear`` by itself would leave the row to PyTorch, which
``auto`` says. Each gradient is timed by itself, by our registered operator and by PyTorch's products; ``pass`` is
forward and backward on the tape, as a model runs them. oneDNN: its forward on a weight that it packed beforehand (no
training); torch.compile: forward and backward, of the rows where --compile asks for it. Limits, in the same turns: a
copy of the weight's bytes, and what one of the three products takes at the rate of a large product.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from measure import interleaved, is_asked_for, run
from switchgrad import ops
from switchgrad.ops.fully_connected.choice import is_streamed


@dataclass(frozen=True)
class Case:
    rows: int
    inputs: int
    outputs: int

    @property
    def name(self) -> str:
        return f"{self.rows} x {self.inputs} to {self.outputs}"


LARGE = [(9216, 4096), (4096, 4096), (4096, 1000), (25088, 4096)]
SMALL = [(400, 120), (120, 84), (84, 10), (1600, 10), (784, 300)]
CASES = [
    *(Case(rows, *shape) for shape in SMALL for rows in (32, 128)),
    *(Case(rows, *shape) for shape in LARGE for rows in (1, 4, 16, 32, 64, 128)),
]
COMPILED = (Case(16, 9216, 4096), Case(128, 400, 120))
PRODUCT = 1024  # rows and columns of the large product
LONG, OFTEN = 1 << 27, 64  # a turn: so many multiplications, or so many calls


def connected(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.relu(F.linear(x, weight, bias))


def streamed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ops.linear_relu(x, weight, bias, algorithm="streamed")


def both(layer: Callable[..., Tensor], tensors: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(layer(*tensors), tensors, grad)


def of_input(grad: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(grad, y, 0) @ weight


def of_weight(grad: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    sent = torch.ops.aten.threshold_backward(grad, y, 0)
    return sent.t() @ x, sent.sum(0)


def check(tensors: tuple[Tensor, ...], grad: Tensor) -> None:
    """The gate before the clock: no gradient errs more than twice as much as PyTorch's against float64."""
    exact = [t.detach().double().requires_grad_() for t in tensors]
    truth = torch.autograd.grad(connected(*exact), exact, grad.double())
    for ours, theirs, right in zip(both(streamed, tensors, grad), both(connected, tensors, grad), truth, strict=True):
        errors = [float((found - right).norm() / right.norm()) for found in (ours, theirs)]
        # A sum within rounding of 0 may pass the ReLU of one side alone.
        if not errors[0] <= 2 * errors[1] + 1e-3:
            raise SystemExit(f"gradients differ from PyTorch's: relative error {errors[0]:.3g}, {errors[1]:.3g}")


def in_rows(ways: dict[str, Callable[[], object]], often: int, seconds: float) -> dict[str, float]:
    """Milliseconds of a call, each way called so often in a row: short ones would be told by what ran before them."""

    def again(way: Callable[[], object]) -> Callable[[], None]:
        def run_all() -> None:
            for _ in range(often):
                way()

        return run_all

    times = interleaved({name: again(way) for name, way in ways.items()}, seconds, least=5)
    return {name: ms / often for name, ms in times.items()}


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(shape).requires_grad_()
        for shape in ((case.rows, case.inputs), (case.outputs, case.inputs), (case.outputs,))
    )
    tensors, grad = (x, weight, bias), torch.randn(case.rows, case.outputs)
    if case.inputs * case.outputs * case.rows <= 1 << 31:  # in float64 the largest take minutes; fuzzers and tests look
        check(tensors, grad)
    plain = tuple(t.detach() for t in tensors)
    products = case.rows * case.inputs * case.outputs
    y, back = connected(*plain), torch.ops.switchgrad.linear_backward
    packed = [plain[0].to_mkldnn(), plain[1].to_mkldnn(), plain[2].to_mkldnn()]
    room = torch.empty_like(plain[1])
    a, b = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
    ways: dict[str, Callable[[], object]] = {
        "forward": lambda: streamed(*plain),
        "input": lambda: back(grad, y, plain[0], plain[1], True, False, False),
        "weight": lambda: back(grad, y, plain[0], plain[1], False, True, True),
        "pass": lambda: both(streamed, tensors, grad),
        "torch forward": lambda: connected(*plain),
        "torch input": lambda: of_input(grad, y, plain[1]),
        "torch weight": lambda: of_weight(grad, y, plain[0]),
        "torch pass": lambda: both(connected, tensors, grad),
        "onednn": lambda: torch.relu(torch.ops.aten.mkldnn_linear(packed[0], packed[1], plain[2])).to_dense(),
        "copy": lambda: room.copy_(plain[1]),
        "product": lambda: a @ b,
    }
    compiled = torch.compile(connected) if options.compile and case in COMPILED else None
    if compiled is not None:
        ways["compile pass"] = lambda: both(compiled, tensors, grad)
    times = in_rows(ways, min(max(1, LONG // products), OFTEN), options.seconds)
    fastest = min(times[name] for name in ("torch pass", "compile pass") if name in times)
    return {
        "case": case.name,
        "auto": is_streamed(case.rows, weight, "auto"),
        **{f"{name}_ms": times[name] for name in ("forward", "input", "weight", "pass")},
        **{f"torch_{name}_ms": times[f"torch {name}"] for name in ("forward", "input", "weight", "pass")},
        "onednn_forward_ms": times["onednn"],
        "torch_compile_pass_ms": times.get("compile pass"),
        "times_torch": fastest / times["pass"],
        "copy_ms": times["copy"],
        "product_ms": times["product"] * products / PRODUCT**3,
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("linear", measure)
