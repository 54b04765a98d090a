"""What the tables of whole networks say (training, inference): titles, columns and rows, by the name of the results."""

from __future__ import annotations

from typing import Any

from table import Table, ms, ratio


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


STEP = Table(
    "A training step (forward, loss, backward, PyTorch's fused SGD with momentum): the same network with our "
    "pooling layers, through `switchgrad.optimize`, and with `tune=True`; against the fastest of PyTorch's "
    "three",
    "case | memory | PyTorch | PyTorch channels_last | torch.compile | our pooling | vs PyTorch | optimize | "
    "tuned | vs the fastest PyTorch",
    step_row,
)


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


STEP_MEMORY = Table(
    "A training step of VGG-16 (224x224, batch 4), each side in a process of its own, MiB: what the process "
    "holds between steps, what a step needs besides, and what forward leaves for backward",
    "case | memory | held | peak | step | of PyTorch's | kept for backward | of PyTorch's ",
    step_memory_row,
)


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


INFERENCE = Table(
    "Inference, milliseconds, and the better of ours against torch.compile and ONNX Runtime",
    "case | memory | PyTorch | PyTorch channels_last | torch.compile | ONNX Runtime | optimize | tuned | vs "
    "torch.compile | vs ONNX Runtime",
    inference_row,
)

TABLES = {
    "step": STEP,
    "step_memory": STEP_MEMORY,
    "inference": INFERENCE,
}
