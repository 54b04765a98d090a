"""Pooling over boxes and suppression against compositions of PyTorch, as there is no other library to measure here.

    python benchmarks/regions.py                 # all rows, both allocators, writes results/regions.json
    python benchmarks/regions.py --only align    # some rows, printed only

``composition`` is the reference: box after box in matrix products (averages, RoIAlign), in gathered cells (maxima), in
blocks of 256 (suppression). ``grid_sample`` is RoIAlign as one call of PyTorch's for each picture, all boxes in one
grid, then an average. A row is timed only after its values and gradient agree with the composition's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from measure import interleaved, is_asked_for, run
from switchgrad import ops
from switchgrad.kernels.schema import REFERENCES
from switchgrad.ops import regions as regions  # registers its operators

SCALE = 1 / 16
PIXELS = 800


@dataclass(frozen=True)
class Case:
    name: str
    operator: str  # a registered one
    options: tuple[Any, ...]
    channels: int = 256
    boxes: int = 512
    places: int = 7
    cells: int = 50
    dtype: torch.dtype = torch.float32
    channels_last: bool = False


ALIGN = (SCALE, 2, True, False)
CASES = [
    Case("RoIAlign 7x7, 2 samples", "roi_align", ALIGN),
    Case("RoIAlign 7x7, 2 samples, channels_last", "roi_align", ALIGN, channels_last=True),
    Case("RoIAlign 14x14, 2 samples", "roi_align", ALIGN, places=14, boxes=128),
    Case("RoIAlign 7x7, a sample a cell", "roi_align", (SCALE, -1, False, False)),
    Case("RoIAlign 7x7, 2 samples, 400x400", "roi_align", (0.5, 2, True, False), channels=32, cells=400, boxes=64),
    Case("RoIAlign 7x7, bfloat16", "roi_align", ALIGN, dtype=torch.bfloat16),
    Case("RoI average 7x7", "roi_average", (SCALE, False)),
    Case("position-sensitive RoIAlign 7x7", "roi_align", (SCALE, 2, True, True), channels=21 * 49),
    Case("position-sensitive average 7x7", "roi_average", (SCALE, True), channels=21 * 49),
    Case("RoI max 7x7", "roi_max", (SCALE,)),
    Case("RoI max 7x7, channels_last", "roi_max", (SCALE,), channels_last=True),
]


def boxes_of(count: int, pictures: int) -> Tensor:
    """Inside the picture, from small to half of it."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=generator) * PIXELS * 0.5 + 20
    extent = torch.rand(count, 2, generator=generator) * PIXELS * 0.4 + 16
    picture = torch.randint(pictures, (count, 1), generator=generator).sort(0).values
    return torch.cat([picture.float(), corner, corner + extent], 1)


def sampled(x: Tensor, boxes: Tensor, case: Case) -> Tensor:
    """RoIAlign with two samples by ``grid_sample``."""
    scale, places, size = case.options[0], case.places, case.cells
    at = (torch.arange(2 * places) + 0.5) / (2 * places)
    low, high = boxes[:, 1:3] * scale - 0.5, boxes[:, 3:5] * scale - 0.5
    along = low[:, None] + at[:, None] * (high - low)[:, None]  # (K, samples, 2): x, y in cells
    grid = torch.stack(
        [
            along[:, None, :, 0].expand(-1, 2 * places, -1),
            along[:, :, None, 1].expand(-1, -1, 2 * places),
        ],
        -1,
    )
    grid = grid * (2 / (size - 1)) - 1
    pooled = []
    for n in range(x.shape[0]):
        mine = grid[boxes[:, 0] == n]
        drawn = functional.grid_sample(
            x[n : n + 1], mine.flatten(0, 1)[None], padding_mode="border", align_corners=True
        )
        means = functional.avg_pool2d(drawn, 2)[0]
        pooled.append(means.unflatten(1, (-1, places)).transpose(0, 1))
    return torch.cat(pooled)


def measure_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    x = torch.randn(2, case.channels, case.cells, case.cells).to(case.dtype).contiguous(memory_format=layout)
    boxes, places, size = boxes_of(case.boxes, 2), [case.places, case.places], list(x.shape)
    registered = getattr(torch.ops.switchgrad, case.operator)
    forward: dict[str, Callable[[], Any]] = {
        "ours": lambda: registered(x, boxes, places, *case.options),
        "composition": lambda: REFERENCES[case.operator](x, boxes, places, *case.options),
    }
    wanted = forward["composition"]()
    pooled = wanted[0] if case.operator == "roi_max" else wanted
    grad = torch.randn_like(pooled)
    if case.operator == "roi_max":
        down, arguments = "roi_max_route", (grad, boxes, wanted[1], size, case.channels_last)
    else:
        down, arguments = f"{case.operator}_spread", (grad, boxes, size, *case.options, case.channels_last)
    backward: dict[str, Callable[[], Any]] = {
        "ours": lambda: getattr(torch.ops.switchgrad, down)(*arguments),
        "composition": lambda: REFERENCES[down](*arguments),
    }
    check(forward, backward)
    if case.operator == "roi_align" and case.options == (case.options[0], 2, True, False) and x.dtype == torch.float32:
        forward["grid_sample"] = lambda: sampled(x, boxes, case)
        torch.testing.assert_close(forward["grid_sample"](), pooled, rtol=1e-3, atol=1e-3)
        leaf = x.clone().requires_grad_()
        by_grid = sampled(leaf, boxes, case)
        backward["grid_sample"] = lambda: torch.autograd.grad(by_grid, leaf, grad, retain_graph=True)
    return row(case.name, interleaved(forward, options.seconds, 3), interleaved(backward, options.seconds, 3))


def check(forward: dict[str, Callable[[], Any]], backward: dict[str, Callable[[], Any]]) -> None:
    """The gate before the clock."""
    for both in (forward, backward):
        mine, other = ((t if isinstance(t, Tensor) else t[0]).float() for t in (both["ours"](), both["composition"]()))
        error, scale = float((mine - other).abs().max()), float(other.abs().max())
        if not error <= 0.01 * scale:
            raise SystemExit(f"values or gradients differ from the composition's by {error:.2g} of {scale:.2g}")


def measure_suppression(name: str, extent: float, options: argparse.Namespace) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(10_000, 2, generator=generator) * 1000
    boxes = torch.cat([corner, corner + torch.rand(10_000, 2, generator=generator) * extent + 2], 1)
    order = torch.rand(10_000, generator=generator).argsort(descending=True)
    scores = torch.empty(10_000).scatter_(0, order, torch.linspace(1, 0, 10_000))
    functions = {
        "ours": lambda: ops.nms(boxes, scores, 0.5),
        "composition": lambda: REFERENCES["nms_in_order"](boxes, order, None, 0.5),
    }
    if not torch.equal(functions["ours"](), functions["composition"]()):
        raise SystemExit("the boxes that stay differ")
    return row(f"{name}, {len(functions['ours']())} stay", interleaved(functions, options.seconds, least=3), None)


def row(name: str, forward: dict[str, float], backward: dict[str, float] | None) -> dict[str, Any]:
    down = backward or {}
    return {
        "case": name,
        "forward_ms": forward["ours"],
        "composition_ms": forward["composition"],
        "grid_sample_ms": forward.get("grid_sample"),
        "times_composition": forward["composition"] / forward["ours"],
        "backward_ms": down.get("ours"),
        "composition_backward_ms": down.get("composition"),
        "grid_sample_backward_ms": down.get("grid_sample"),
        "times_composition_backward": down["composition"] / down["ours"] if backward else None,
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = [measure_case(case, options) for case in CASES if is_asked_for(case.name, options)]
    for name, extent in (("NMS of 10,000 boxes, crowded", 400.0), ("NMS of 10,000 boxes, small", 30.0)):
        if is_asked_for(name, options):
            rows.append(measure_suppression(name, extent, options))
    return rows


if __name__ == "__main__":
    run("regions", measure)
