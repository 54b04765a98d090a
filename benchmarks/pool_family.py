"""The pooling family over many shapes, each member that PyTorch has against everybody else who has it.

    python benchmarks/pool_family.py                          # all rows, both allocators, writes the JSON
    python benchmarks/pool_family.py --only "lp " --update    # one member's rows, put into that file
    python benchmarks/pool_family.py --only "max 1x1" --compile --update   # with torch.compile as well

Peers: PyTorch eager on the same tensor, and in the other layout; oneDNN through opaque tensors (the conversion not
counted); ONNX Runtime (forward); ``torch.compile`` of PyTorch's function. The limits are a copy of as many bytes as
have to be read and written (on large maps we should be within 1.3 of it), and for the backward one number written into
every cell of a new gradient as well. A row is timed only after values and gradient agree with PyTorch's. Rows that lose
stay, with the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch import config as functorch

from family import Case, cases
from measure import THREADS, interleaved, is_asked_for, run
from table import MOST_COPIES

try:  # peers that a development installation has
    import onnx
    import onnxruntime
except ImportError:
    onnx = onnxruntime = None

LARGE = 4 << 20  # bytes moved each way, from which on memory is the limit, and not the call


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    pool, torch_pool = case.functions()
    x = case.input().requires_grad_()
    y, y_torch = pool(x), torch_pool(x)
    grad = torch.randn_like(y_torch)
    check(case, y, y_torch, x, grad)
    other = in_other_layout(x)
    compiled = torch.compile(torch_pool) if options.compile else None
    copied, copied_back = (
        torch.empty(count // 2, dtype=torch.uint8)
        for count in (case.bytes_moved(x, y), case.bytes_moved_backward(x, y))
    )
    forward = interleaved(
        {
            "ours": lambda: pool(x),
            "torch": lambda: torch_pool(x),
            "copy": copied.clone,
            **({} if other is None else {"other layout": lambda: torch_pool(other)}),
            **({} if compiled is None else {"compiled": lambda: compiled(x)}),
        }
        | onednn(case, x, torch_pool)
        | onnx_runtime(case, x),
        options.seconds,
    )
    results = {"ours": (y, x), "torch": (y_torch, x)}
    if other is not None:
        results["other layout"] = (torch_pool(other), other)
    if compiled is not None:
        results["compiled"] = (compiled(x), x)
    backward = interleaved(
        {name: backward_of(*pair, grad) for name, pair in results.items()}
        | {"fill": lambda: torch.full_like(x.detach(), 1.0), "copy": copied_back.clone},
        options.seconds,
    )
    return row(case, forward, backward, is_large=copied.nbytes >= LARGE)


def backward_of(y: Tensor, x: Tensor, grad: Tensor) -> Callable[[], object]:
    """The backward alone, on a gradient laid out as the result is."""
    given = torch.empty_like(y, requires_grad=False).copy_(grad)
    return lambda: torch.autograd.grad(y, x, given, retain_graph=True)


def check(case: Case, y: Tensor, y_torch: Tensor, x: Tensor, grad: Tensor) -> None:
    """The gate before the clock: the same values and gradient, exactly where nothing is added up."""
    slopes = [torch.autograd.grad(out, x, grad, retain_graph=True)[0] for out in (y, y_torch)]
    loose = 2e-2 if x.dtype.itemsize == 2 else 1e-4
    same = torch.equal if case.selects else lambda a, b: torch.allclose(a, b, rtol=loose, atol=loose)
    if not same(y, y_torch) or not torch.allclose(*slopes, rtol=loose, atol=loose):
        raise SystemExit(f"values or gradients differ from PyTorch's: {case.name}")


def in_other_layout(x: Tensor) -> Tensor | None:
    """The same numbers channels last, or planar where they are channels last; None where there is no other layout."""
    if x.dim() == 3:
        return None
    last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    target = last if x.is_contiguous() else torch.contiguous_format
    return x.detach().contiguous(memory_format=target).requires_grad_()


def onednn(case: Case, x: Tensor, torch_pool: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    if case.kind not in ("max", "avg") or x.dim() != 4 or not x.is_contiguous() or x.dtype != torch.float32:
        return {}
    opaque = x.detach().to_mkldnn()
    return {"onednn": lambda: torch_pool(opaque)}


def onnx_runtime(case: Case, x: Tensor) -> dict[str, Any]:
    """The same pooling in ONNX Runtime, on the same memory."""
    node = None if onnx is None else case.onnx_node()
    if node is None or not x.is_contiguous() or x.dtype != torch.float32:
        return {}
    name, attributes = node
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(name, ["x"], ["y"], **attributes)],
        "pool",
        [onnx.helper.make_tensor_value_info("x", kind, list(x.shape))],
        [onnx.helper.make_tensor_value_info("y", kind, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = THREADS
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else it keeps the cores from the others
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    given = {"x": x.detach().numpy()}
    return {"onnx": lambda: session.run(None, given)}


def row(case: Case, forward: dict[str, float], backward: dict[str, float], is_large: bool) -> dict[str, Any]:
    ratio, back = forward["torch"] / forward["ours"], backward["torch"] / backward["ours"]
    met = case.met(forward, backward)
    copies, copies_back = (way["ours"] / way["copy"] if is_large else None for way in (forward, backward))
    is_copy = max(copies or 0, copies_back or 0) <= MOST_COPIES
    return {
        "case": case.name,
        "forward_ms": forward["ours"],
        "torch_ms": forward["torch"],
        "torch_other_layout_ms": forward.get("other layout"),
        "compiled_ms": forward.get("compiled"),
        "onednn_ms": forward.get("onednn"),
        "onnx_ms": forward.get("onnx"),
        "copy_ms": forward["copy"],
        "copies": copies,
        "times_torch": ratio,
        "wanted": case.wanted,
        "backward_ms": backward["ours"],
        "torch_backward_ms": backward["torch"],
        "torch_other_layout_backward_ms": backward.get("other layout"),
        "compiled_backward_ms": backward.get("compiled"),
        "fill_ms": backward["fill"],
        "copies_backward": copies_back,
        "times_torch_backward": back,
        "wanted_backward": case.wanted_backward,
        "met": met,
        "reason": case.why(forward, backward) if not met else None if is_copy else case.why_no_copy(),
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    functorch.donated_buffer = False  # else a compiled backward runs once
    return [measure_case(case, options) for case in cases() if is_asked_for(case.name, options)]


if __name__ == "__main__":
    run("pool_family", measure)
