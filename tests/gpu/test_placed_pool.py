"""Max pooling over windows at given places by Triton kernels, called directly and held to loops over the windows."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.interpreted import carried
from switchgrad.gpu import placed_pool

SHARED = torch.tensor([0, 2, 4, 0, 3, 6])  # rows, then columns
OWN = torch.stack([torch.stack([(SHARED - (n + c) % 2).clamp_min(0) for c in range(3)]) for n in range(2)])
CASES: dict[str, tuple[Tensor, Tensor | None, list[int], list[int]]] = {
    "overlapping": (SHARED, None, [3, 3], [3, 4]),
    "cut by the border": (torch.tensor([1, 3, 5, 1, 4, 6]), None, [3, 3], [3, 4]),
    "of different lengths": (SHARED, torch.tensor([3, 3, 6, 2, 7, 7]), [3, 3], [3, 4]),
    "each map has its own": (OWN, None, [3, 3], [2, 2]),
}


def run(kernel: Any, *arguments: Any) -> Any:
    return carried(kernel, arguments, "cuda") if torch.cuda.is_available() else kernel(*arguments)


def windows(case: str, size: tuple[int, ...], n: int, c: int) -> Any:
    """For each place of a map: its index, and the offset in the box and coordinates of each of its cells in order."""
    starts, ends, places, box = CASES[case]
    starts = starts[n, c] if starts.dim() > 1 else starts
    for place in itertools.product(*map(range, places)):
        spans = []
        for axis, p in enumerate(place):
            at = sum(places[:axis]) + p
            first = int(starts[at])
            last = min(first + box[axis], size[axis]) if ends is None else int(ends[at])
            spans.append(range(first, last))
        rows, columns = spans
        yield place, [((y - rows.start) * box[1] + x - columns.start, (y, x)) for y in rows for x in columns]


def loops(case: str, x: Tensor) -> tuple[Tensor, Tensor]:
    values = torch.zeros(*x.shape[:2], *CASES[case][2], dtype=x.dtype)
    codes = torch.zeros(values.shape, dtype=torch.uint8)
    for n, c in itertools.product(*map(range, x.shape[:2])):
        for place, cells in windows(case, tuple(x.shape[2:]), n, c):
            best, code = None, 0
            for offset, cell in cells:
                number = float(x[n, c][cell])
                if best is None or number > best or math.isnan(number):
                    best, code = number, offset
            values[n, c][place], codes[n, c][place] = best, code
    return values, codes


def routed(case: str, pooled: Tensor, codes: Tensor, x: Tensor) -> Tensor:
    total = torch.zeros(x.shape, dtype=pooled.dtype)
    for n, c in itertools.product(*map(range, x.shape[:2])):
        for place, cells in windows(case, tuple(x.shape[2:]), n, c):
            total[n, c][dict(cells)[int(codes[n, c][place])]] += pooled[n, c][place]
    return total


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", ["plain", "ties", "nan"])
@pytest.mark.parametrize("case", CASES)
def test_values_codes_and_the_way_back(case: str, kind: str, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(len(case)))
    x = {"plain": x, "ties": x.sign(), "nan": torch.where(x > 1, torch.nan, x)}[kind].contiguous(memory_format=layout)
    starts, ends, places, box = CASES[case]
    values, codes = run(placed_pool.placed_max_pool, x, starts, ends, places, box)
    wanted = loops(case, x)
    assert values.is_contiguous(memory_format=layout)
    assert torch.equal(codes, wanted[1])
    torch.testing.assert_close(values.contiguous(), wanted[0], rtol=0, atol=0, equal_nan=True)
    sent = torch.randn(values.shape, dtype=torch.float64)
    total = run(placed_pool.placed_max_pool_route, sent, codes, starts, ends, x.shape[2:], box)
    assert total.is_contiguous(memory_format=layout)
    assert torch.equal(total.contiguous(), routed(case, sent, codes, x))


@pytest.mark.parametrize("shape", [(2, 3, 11), (1, 2, 4, 5, 6)])
def test_signals_and_volumes(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    dims = len(shape) - 2
    starts = torch.tensor([0, 2] * dims)
    values, codes = run(placed_pool.placed_max_pool, x, starts, None, [2] * dims, [2] * dims)
    for axis in range(dims):
        x = x.unfold(2 + axis, 2, 2).narrow(2 + axis, 0, 2)
    laid = x.flatten(2 + dims)
    assert torch.equal(values, laid.amax(-1))
    assert torch.equal(codes.long(), laid.argmax(-1))
