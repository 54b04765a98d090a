"""Pooling over boxes by Triton kernels, held to the references: every sum and its adjoint, maxima and their route."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.interpreted import OnTriton
from switchgrad import ops
from switchgrad.kernels.schema import REFERENCES
from switchgrad.ops import regions as regions  # its operators are registered when it is opened

LAYOUTS = (torch.contiguous_format, torch.channels_last)
BOXES = torch.tensor(
    [
        [2, 0.3, 0.7, 9.2, 6.4],
        [0, 2.0, 1.0, 7.9, 3.1],
        [2, -2.5, -1.5, 3.0, 12.0],  # sticks out on three sides
        [0, 4.5, 2.5, 4.5, 2.5],  # a point
        [0, 6.0, 5.0, 3.0, 2.0],  # inside out
        [2, 40.0, 40.0, 60.0, 50.0],  # beyond the map
        [0, 1.25, 0.5, 13.75, 12.5],
    ],
    dtype=torch.float64,
)
SUMS: dict[str, tuple[str, tuple[Any, ...], int]] = {
    "align": ("roi_align", (0.5, 2, True, False), 1),
    "align, as many samples as cells": ("roi_align", (0.7, -1, False, False), 1),
    "position-sensitive align": ("roi_align", (0.5, 2, True, True), 6),
    "average": ("roi_average", (0.5, False), 1),
    "position-sensitive average": ("roi_average", (0.6, True), 6),
}


def maps(channels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(3, channels, 6, 7, generator=torch.Generator().manual_seed(channels), dtype=torch.float64)
    return (x * 4).to(dtype)


def on_triton(name: str, *arguments: Any) -> Any:
    with OnTriton() as mode:
        result = getattr(torch.ops.switchgrad, name)(*arguments)
    assert mode.served == {name}
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SUMS)
def test_sums_and_their_adjoint(case: str, layout: torch.memory_format) -> None:
    name, options, deal = SUMS[case]
    x = maps(3 * deal).contiguous(memory_format=layout)
    wanted = REFERENCES[name](x, BOXES, [2, 3], *options)
    got = on_triton(name, x, BOXES, [2, 3], *options)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert got.stride() == wanted.stride()
    g = torch.randn_like(wanted)
    last = layout == torch.channels_last
    wanted = REFERENCES[f"{name}_spread"](g, BOXES, x.shape, *options, last)
    got = on_triton(f"{name}_spread", g, BOXES, x.shape, *options, last)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert got.stride() == wanted.stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype: torch.dtype) -> None:
    x, boxes, options = maps(3, dtype), BOXES.float(), SUMS["align"][1]
    exact = REFERENCES["roi_align"](x.double(), boxes.double(), [2, 3], *options)
    got = on_triton("roi_align", x, boxes, [2, 3], *options)
    assert got.dtype == dtype
    assert float((got.double() - exact).abs().max()) <= 2 * torch.finfo(dtype).eps * float(exact.abs().max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["plain", "ties", "nan"])
def test_maxima(kind: str, layout: torch.memory_format) -> None:
    x = maps(3, torch.float32)
    x = {"plain": x, "ties": x.sign(), "nan": torch.where(x > 4, torch.nan, x)}[kind].contiguous(memory_format=layout)
    wanted = REFERENCES["roi_max"](x, BOXES.float(), [2, 3], 0.5)
    got = on_triton("roi_max", x, BOXES.float(), [2, 3], 0.5)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
        assert ours.stride() == theirs.stride()
    g, last = torch.randn_like(x[:, :, :1, :1].expand(-1, -1, 2, 3))[[0, 1, 2, 0, 1, 2, 0]], layout == LAYOUTS[1]
    wanted = REFERENCES["roi_max_route"](g.double(), BOXES, got[1], x.shape, last)
    spread = on_triton("roi_max_route", g.double(), BOXES, got[1], x.shape, last)
    torch.testing.assert_close(spread, wanted, rtol=0, atol=1e-15)


def test_cells_without_weight_take_no_part() -> None:
    x = torch.full((1, 1, 4, 4), torch.nan)
    x[..., 1:3, 1:3] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    box = torch.tensor([[0.0, 1.5, 1.5, 2.5, 2.5]])
    assert on_triton("roi_align", x, box, [1, 1], 1.0, 1, True, False).item() == REFERENCES["roi_align"](
        x, box, [1, 1], 1.0, 1, True, False
    )


def test_no_boxes_and_no_pictures() -> None:
    x, none = maps(3), BOXES[:0]
    assert on_triton("roi_align", x, none, [2, 3], *SUMS["align"][1]).shape == (0, 3, 2, 3)
    assert on_triton("roi_max", x, none, [2, 3], 0.5)[1].shape == (0, 3, 2, 3)
    spread = on_triton("roi_align_spread", x[:0, :, :2, :3], none, x.shape, *SUMS["align"][1], False)
    assert not spread.any()


def test_through_the_tape() -> None:
    x = maps(3).requires_grad_()
    wanted = torch.autograd.grad(ops.roi_pool(x, BOXES, 2, 0.5).square().sum(), x)[0]
    with OnTriton() as mode:
        got = torch.autograd.grad(ops.roi_pool(x, BOXES, 2, 0.5).square().sum(), x)[0]
    assert mode.served == {"roi_max", "roi_max_route"}
    torch.testing.assert_close(got, wanted)
