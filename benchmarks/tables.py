"""Write the tables of README.md and docs/measured.md from results/*.json.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from measure import RESULTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "measured.md")
HEADS = {
    "pool": (
        "Max pooling, milliseconds and times as fast as PyTorch eager in the same layout "
        "(wanted in brackets; **bold** where it falls short). "
        "Copy: a clone of the input; fill: one number written into every cell of a new gradient, the backward's limit",
        [
            "case",
            "memory",
            "forward",
            "oneDNN",
            "copy",
            "forward vs PyTorch",
            "backward",
            "fill",
            "backward vs PyTorch",
        ],
    ),
    "step": (
        "A training step (forward, loss, backward, PyTorch's fused SGD with momentum): the same network with our "
        "pooling layers, through `switchgrad.optimize`, and with `tune=True`; against the fastest of PyTorch's three",
        [
            "case",
            "memory",
            "PyTorch",
            "PyTorch channels_last",
            "torch.compile",
            "our pooling",
            "vs PyTorch",
            "optimize",
            "tuned",
            "vs the fastest PyTorch",
        ],
    ),
    "step_memory": (
        "A training step of VGG-16 (224x224, batch 4), each side in a process of its own, MiB: what the process holds "
        "between steps, what a step needs besides, and what forward leaves for backward",
        ["case", "memory", "held", "peak", "step", "of PyTorch's", "kept for backward", "of PyTorch's "],
    ),
    "inference": (
        "Inference, milliseconds, and the better of ours against torch.compile and ONNX Runtime",
        [
            "case",
            "memory",
            "PyTorch",
            "PyTorch channels_last",
            "torch.compile",
            "ONNX Runtime",
            "optimize",
            "tuned",
            "vs torch.compile",
            "vs ONNX Runtime",
        ],
    ),
    "pool_family": (
        "Every member of the family that PyTorch has, milliseconds: PyTorch eager on the same tensor and in the other "
        "layout, its function through torch.compile where measured, oneDNN through opaque tensors, ONNX Runtime; then "
        "how many times as fast as PyTorch on the same tensor we are (wanted in brackets; **bold** where it falls "
        "short). Copy: a copy of as many bytes as the forward reads and writes; fill: one number written into every "
        "cell of a new gradient",
        [
            "case",
            "memory",
            "forward",
            "PyTorch",
            "other layout",
            "compiled",
            "oneDNN",
            "ONNX Runtime",
            "copy",
            "vs PyTorch",
            "backward",
            "PyTorch ",
            "other layout ",
            "compiled ",
            "fill",
            "vs PyTorch ",
            "why",
        ],
    ),
    "weighted_pool": (
        "Blurred pooling, averages under Gaussian and given weights, trainable subsampling, milliseconds: against a "
        "depthwise convolution of PyTorch's (behind its padding, before a division) on the same tensor, in the other "
        "layout, and compiled where measured; then how many times as fast as the fastest of them we are (**bold** "
        "where it falls short). Copy: a copy of as many bytes as the forward reads and writes; fill: one number "
        "written into every cell of a new gradient",
        [
            "case",
            "memory",
            "forward",
            "PyTorch",
            "other layout",
            "compiled",
            "copy",
            "vs fastest",
            "backward",
            "PyTorch ",
            "other layout ",
            "compiled ",
            "fill",
            "vs fastest ",
            "why",
        ],
    ),
    "regions": (
        "Pooling over boxes and suppression, milliseconds and times as fast as the composition of PyTorch that they "
        "replace; grid_sample: RoIAlign as one call of PyTorch's for each picture, all boxes in one grid, forward and "
        "backward",
        [
            "case",
            "memory",
            "forward",
            "vs composition",
            "grid_sample",
            "backward",
            "vs composition ",
            "grid_sample ",
        ],
    ),
    "fused": (
        "Fused operators, milliseconds and times as fast as PyTorch's steps; copy: a clone of the bytes that must move",
        [
            "case",
            "memory",
            "forward",
            "copy",
            "forward vs PyTorch",
            "backward",
            "backward vs PyTorch",
            "both vs PyTorch",
        ],
    ),
    "conv_pool": (
        "Convolution, bias, ReLU and max pooling as one block, against the faster of PyTorch's layouts; the backward's "
        "share of a dense matrix product's rate, as if it had done the dense work",
        ["case", "memory", "forward", "backward", "PyTorch forward", "backward ", "vs PyTorch", "backward / product"],
    ),
    "linear": (
        "Fully connected layers with a ReLU, rows x inputs to outputs, milliseconds: forward, the input's gradient, "
        "the weight's with the bias's, each beside PyTorch's; pass: forward and backward on the tape, times as fast as "
        "the fastest of PyTorch's; copy of the weight's bytes, and one product at the rate of a large one. Thin "
        "batches come near the larger of the two; where ours is not taken (`ops.linear` leaves the row to PyTorch), "
        "the weight stays in the caches, PyTorch's product is near its rate already, and a call of ours costs more",
        [
            "case",
            "memory",
            "taken",
            "forward",
            "dx",
            "dw",
            "PyTorch forward",
            "dx ",
            "dw ",
            "oneDNN forward",
            "pass",
            "PyTorch pass",
            "torch.compile pass",
            "vs PyTorch",
            "copy",
            "product",
        ],
    ),
    "convolution": (
        "3x3 convolutions, milliseconds and times as fast as the faster of PyTorch's layouts; tile: how many outputs a "
        "side (0: PyTorch's own serves); planar: ours against PyTorch's, both in the default layout; rate: both "
        "passes, as if every tap had been multiplied, in matrix products; errors: root mean squares against float64, "
        "in millionths",
        [
            "case",
            "memory",
            "tile",
            "forward",
            "backward",
            "PyTorch forward",
            "backward ",
            "vs PyTorch",
            "planar",
            "rate / product",
            "error",
            "PyTorch's",
        ],
    ),
}


def ratio(got: float, wanted: float | None) -> str:
    text = f"{got:.1f}" if got >= 10 else f"{got:.2f}"
    if wanted is None:
        return text
    return f"{text} [{wanted:g}]" if got >= wanted else f"**{text}** [{wanted:g}]"


def ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def pool_row(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        row["memory"],
        ms(row["forward_ms"]),
        ms(row["onednn_ms"]),
        ms(row["copy_ms"]),
        ratio(row["times_torch"], row["wanted"]),
        ms(row["backward_ms"]),
        ms(row["fill_ms"]),
        ratio(row["times_torch_backward"], row["wanted_backward"]),
    ]


def family_row(row: dict[str, Any]) -> list[str]:
    forward = ("forward", "torch", "torch_other_layout", "compiled", "onednn", "onnx", "copy")
    backward = ("backward", "torch_backward", "torch_other_layout_backward", "compiled_backward", "fill")
    return [
        row["case"],
        row["memory"],
        *(ms(row[f"{peer}_ms"]) for peer in forward),
        ratio(row["times_torch"], row["wanted"]),
        *(ms(row[f"{peer}_ms"]) for peer in backward),
        ratio(row["times_torch_backward"], row["wanted_backward"]),
        row["reason"] or "",
    ]


def weighted_row(row: dict[str, Any]) -> list[str]:
    peers = ("torch", "other_layout", "compiled")
    return [
        row["case"],
        row["memory"],
        *(ms(row[f"{name}_ms"]) for name in ("forward", *peers, "copy")),
        ratio(row["times_fastest"], 1),
        *(ms(row[name]) for name in ("backward_ms", *(f"{peer}_backward_ms" for peer in peers), "fill_ms")),
        ratio(row["times_fastest_backward"], 1),
        row["reason"] or "",
    ]


def fused_row(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        row["memory"],
        ms(row["forward_ms"]),
        ms(row["copy_ms"]),
        ratio(row["times_torch"], None),
        ms(row["backward_ms"]),
        ratio(row["times_torch_backward"], None),
        ratio(row["times_torch_both"], None),
    ]


def regions_row(row: dict[str, Any]) -> list[str]:
    back = row["times_composition_backward"]
    return [
        row["case"],
        row["memory"],
        ms(row["forward_ms"]),
        ratio(row["times_composition"], None),
        ms(row["grid_sample_ms"]),
        ms(row["backward_ms"]),
        "-" if back is None else ratio(back, None),
        ms(row["grid_sample_backward_ms"]),
    ]


def step_row(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        row["memory"],
        ms(row["torch_ms"]),
        ms(row["torch_channels_last_ms"]),
        ms(row["torch_compile_ms"]),
        ms(row["ours_ms"]),
        ratio(row["times_torch"], row["wanted"]),
        ms(row["optimized_ms"]),
        ms(row["tuned_ms"]),
        ratio(row["times_fastest"], row["wanted_optimized"]),
    ]


def step_memory_row(row: dict[str, Any]) -> list[str]:
    wanted = "" if row["wanted"] is None else f" [{row['wanted']:g}]"
    return [
        row["case"],
        row["memory"],
        f"{row['held_mib']:.0f}",
        f"{row['peak_mib']:.0f}",
        f"{row['step_mib']:.0f}",
        f"{row['step_of_torch']:.2f}{wanted}",
        f"{row['kept_for_backward_mib']:.0f}",
        f"{row['kept_for_backward_of_torch']:.2f}",
    ]


def inference_row(row: dict[str, Any]) -> list[str]:
    other = row["times_onnx_runtime"]
    return [
        row["case"],
        row["memory"],
        ms(row["torch_ms"]),
        ms(row["torch_channels_last_ms"]),
        ms(row["torch_compile_ms"]),
        ms(row["onnx_runtime_ms"]),
        ms(row["optimized_ms"]),
        ms(row["tuned_ms"]),
        ratio(row["times_compile"], row["wanted"]),
        "-" if other is None else ratio(other, None),
    ]


def conv_pool_row(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        row["memory"],
        ms(row["forward_ms"]),
        ms(row["backward_ms"]),
        ms(row["peer_forward_ms"]),
        ms(row["peer_backward_ms"]),
        ratio(row["times_peer"], row["wanted"]),
        f"{row['backward_by_product']:.2f}",
    ]


def linear_row(row: dict[str, Any]) -> list[str]:
    parts = ("forward", "input", "weight")
    return [
        row["case"],
        row["memory"],
        "yes" if row["auto"] else "no",
        *(ms(row[f"{part}_ms"]) for part in parts),
        *(ms(row[f"torch_{part}_ms"]) for part in parts),
        ms(row["onednn_forward_ms"]),
        ms(row["pass_ms"]),
        ms(row["torch_pass_ms"]),
        ms(row["torch_compile_pass_ms"]),
        ratio(row["times_torch"], 1 if row["auto"] else None),
        ms(row["copy_ms"]),
        ms(row["product_ms"]),
    ]


def convolution_row(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        row["memory"],
        str(row["tile"]),
        ms(row["forward_ms"]),
        ms(row["backward_ms"]),
        ms(row["peer_forward_ms"]),
        ms(row["peer_backward_ms"]),
        ratio(row["times_peer"], 1),
        ratio(row["planar_times_peer"], 1),
        f"{row['rate_by_product']:.2f}",
        f"{1e6 * row['error']:.2f}",
        f"{1e6 * row['peer_error']:.2f}",
    ]


ROWS = {
    "pool": pool_row,
    "pool_family": family_row,
    "weighted_pool": weighted_row,
    "regions": regions_row,
    "fused": fused_row,
    "conv_pool": conv_pool_row,
    "convolution": convolution_row,
    "linear": linear_row,
    "step": step_row,
    "step_memory": step_memory_row,
    "inference": inference_row,
}


def table(name: str, result: dict[str, Any]) -> str:
    title, heads = HEADS[name]
    make = ROWS[name]
    where = result["environment"]
    under = (
        f"{where['processor']}, {where['isa']}, {where['threads']} threads, PyTorch {where['versions']['torch']}; "
        "memory: default allocator, or kept by the process as training does."
    )
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "--:|" * (len(heads) - 2)]
    lines += ["| " + " | ".join(make(row)) + " |" for row in result["rows"]]
    return f"{title}:\n\n" + "\n".join(lines) + f"\n\n{under}"


def main() -> None:
    for page in PAGES:
        text = page.read_text()
        for name in HEADS:
            if not (RESULTS / f"{name}.json").is_file():  # a benchmark that nobody has run yet
                continue
            body = table(name, json.loads((RESULTS / f"{name}.json").read_text()))
            pattern = rf"(<!-- table:{name} -->\n).*?(<!-- /table:{name} -->)"
            text = re.sub(pattern, lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text, flags=re.DOTALL)
        page.write_text(text)
        print(f"wrote the tables of {page.name}")


if __name__ == "__main__":
    main()
