"""What the tables of single operators and blocks say: titles, columns and rows, by the name of the results."""

from __future__ import annotations

from typing import Any

from table import Table, copies, ms, peer_ms, ratio


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


POOL = Table(
    "Max pooling, milliseconds and times as fast as PyTorch eager in the same layout (wanted in brackets; "
    "**bold** where it falls short). Copy: a clone of the input; fill: one number written into every cell of "
    "a new gradient, the backward's limit",
    "case | memory | forward | oneDNN | copy | forward vs PyTorch | backward | fill | backward vs PyTorch",
    pool_row,
)


def family_row(row: dict[str, Any]) -> list[str]:
    peers = ("torch", "torch_other_layout", "compiled", "onednn", "onnx")
    peers_backward = ("torch_backward", "torch_other_layout_backward", "compiled_backward")
    forward, backward = row["forward_ms"], row["backward_ms"]
    return [
        row["case"],
        row["memory"],
        ms(forward),
        *(peer_ms(row[f"{peer}_ms"], forward) for peer in peers),
        ms(row["copy_ms"]),
        copies(row.get("copies")),
        ratio(row["times_torch"], row["wanted"]),
        ms(backward),
        *(peer_ms(row[f"{peer}_ms"], backward) for peer in peers_backward),
        ms(row["fill_ms"]),
        copies(row.get("copies_backward")),
        ratio(row["times_torch_backward"], row["wanted_backward"]),
        row["reason"] or "",
    ]


POOL_FAMILY = Table(
    "Every member of the family that PyTorch has, milliseconds: PyTorch eager on the same tensor and in the "
    "other layout, its function through torch.compile where measured, oneDNN through opaque tensors, ONNX "
    "Runtime (**bold**: faster than ours); then how many times as fast as PyTorch on the same tensor we are "
    "(wanted in brackets; **bold** where it falls short). Copy: a copy of as many bytes as are read and written, "
    "and on large maps how many times as long we take (at most 1.3 wanted); fill: one number written "
    "into every cell of a new gradient",
    "case | memory | forward | PyTorch | other layout | compiled | oneDNN | ONNX Runtime | copy | copies "
    "| vs PyTorch | backward | PyTorch  | other layout  | compiled  | fill | copies  | vs PyTorch  | why",
    family_row,
)


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


WEIGHTED_POOL = Table(
    "Blurred pooling, averages under Gaussian and given weights, trainable subsampling, milliseconds: against"
    " a depthwise convolution of PyTorch's (behind its padding, before a division) on the same tensor, in the"
    " other layout, and compiled where measured; then how many times as fast as the fastest of them we are "
    "(**bold** where it falls short). Copy: a copy of as many bytes as the forward reads and writes; fill: "
    "one number written into every cell of a new gradient",
    "case | memory | forward | PyTorch | other layout | compiled | copy | vs fastest | backward | PyTorch  | "
    "other layout  | compiled  | fill | vs fastest  | why",
    weighted_row,
)


def other_row(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        row["memory"],
        ms(row["forward_ms"]),
        ms(row["composition_ms"]),
        ratio(row["times_composition"], 1),
        ms(row["backward_ms"]),
        ms(row["composition_backward_ms"]),
        ratio(row["times_composition_backward"], 1),
        f"{row['kept_mib']:.1f}",
        f"{row['composition_kept_mib']:.1f}",
        row["reason"] or "",
    ]


OTHER_POOLS = Table(
    "Members that PyTorch does not have, milliseconds: against the few lines of PyTorch that one would write for "
    "each (`benchmarks/compositions.py`), and how many times as fast we are (**bold** where it falls short); kept: "
    "MiB that autograd keeps between forward and backward, ours and the composition's",
    "case | memory | forward | composition | vs composition | backward | composition  | vs composition  | kept | "
    "composition keeps | why",
    other_row,
)


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


REGIONS = Table(
    "Pooling over boxes and suppression, milliseconds and times as fast as the composition of PyTorch that "
    "they replace; grid_sample: RoIAlign as one call of PyTorch's for each picture, all boxes in one grid, "
    "forward and backward",
    "case | memory | forward | vs composition | grid_sample | backward | vs composition  | grid_sample ",
    regions_row,
)


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


FUSED = Table(
    "Fused operators, milliseconds and times as fast as PyTorch's steps; copy: a clone of the bytes that must move",
    "case | memory | forward | copy | forward vs PyTorch | backward | backward vs PyTorch | both vs PyTorch",
    fused_row,
)


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


CONV_POOL = Table(
    "Convolution, bias, ReLU and max pooling as one block, against the faster of PyTorch's layouts; the "
    "backward's share of a dense matrix product's rate, as if it had done the dense work",
    "case | memory | forward | backward | PyTorch forward | backward  | vs PyTorch | backward / product",
    conv_pool_row,
)


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


CONVOLUTION = Table(
    "3x3 convolutions, milliseconds and times as fast as the faster of PyTorch's layouts; tile: how many "
    "outputs a side (0: PyTorch's own serves); planar: ours against PyTorch's, both in the default layout; "
    "rate: both passes, as if every tap had been multiplied, in matrix products; errors: root mean squares "
    "against float64, in millionths",
    "case | memory | tile | forward | backward | PyTorch forward | backward  | vs PyTorch | planar | rate / "
    "product | error | PyTorch's",
    convolution_row,
)


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


LINEAR = Table(
    "Fully connected layers with a ReLU, rows x inputs to outputs, milliseconds: forward, the input's "
    "gradient, the weight's with the bias's, each beside PyTorch's; pass: forward and backward on the tape, "
    "times as fast as the fastest of PyTorch's; copy of the weight's bytes, and one product at the rate of a "
    "large one. Thin batches come near the larger of the two; where ours is not taken (`ops.linear` leaves "
    "the row to PyTorch), the weight stays in the caches, PyTorch's product is near its rate already, and a "
    "call of ours costs more",
    "case | memory | taken | forward | dx | dw | PyTorch forward | dx  | dw  | oneDNN forward | pass | "
    "PyTorch pass | torch.compile pass | vs PyTorch | copy | product",
    linear_row,
)

TABLES = {
    "pool": POOL,
    "pool_family": POOL_FAMILY,
    "weighted_pool": WEIGHTED_POOL,
    "other_pools": OTHER_POOLS,
    "regions": REGIONS,
    "fused": FUSED,
    "conv_pool": CONV_POOL,
    "convolution": CONVOLUTION,
    "linear": LINEAR,
}
