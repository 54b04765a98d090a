"""RoI pooling and RoIAlign, held to loops that say torchvision's semantics; wrong variants are seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import composed
from composed import Composed, case
from switchgrad import nn, ops
from switchgrad.errors import GeometryError
from switchgrad.kernels.schema import REFERENCES

BOXES = [
    [0, 0.3, 0.7, 5.2, 6.4],
    [1, 2.0, 1.0, 7.9, 3.1],
    [1, -2.5, -1.5, 3.0, 12.0],  # sticks out on three sides
    [0, 4.5, 2.5, 4.5, 2.5],  # a point
    [0, 6.0, 5.0, 3.0, 2.0],  # inside out
    [1, 20.0, 20.0, 30.0, 25.0],  # beyond the map
    [0, 1.25, 0.5, 3.75, 2.5],
]


def half_up(x: float) -> int:
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def bounds(box: Any, place: tuple[int, int], pooled: tuple[int, int], scale: float, shape: Any, inclusive: bool) -> Any:
    """Rows and columns of a bin as ranges."""
    out = []
    for axis, (p, count, size) in enumerate(zip(place, pooled, shape, strict=True)):
        low, high = half_up(box[2 - axis] * scale), half_up(box[4 - axis] * scale)
        length = max(high - low + inclusive, 1)
        each = length / count
        if inclusive:
            first, last = math.floor(p * each) + low, math.ceil((p + 1) * each) + low
        else:
            first, last = math.floor(p * each + low), math.ceil((p + 1) * each + low)
        out.append(range(min(max(first, 0), size), min(max(last, 0), size)))
    return out


def pool_loops(kind: str) -> Any:
    def loops(x: np.ndarray, boxes: np.ndarray, output_size: tuple[int, int], spatial_scale: float = 1.0) -> np.ndarray:
        p, q = output_size
        channels = x.shape[1] // (p * q) if kind == "ps" else x.shape[1]
        out = np.zeros((len(boxes), channels, p, q))
        for k, c, i, j in np.ndindex(*out.shape):
            rows, columns = bounds(boxes[k], (i, j), (p, q), spatial_scale, x.shape[2:], kind != "ps")
            channel = (c * p + i) * q + j if kind == "ps" else c
            cells = [x[int(boxes[k, 0]), channel, h, w] for h in rows for w in columns]
            out[k, c, i, j] = (max(cells) if kind == "max" else sum(cells) / len(cells)) if cells else 0
        return out

    return loops


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = int(y), int(x)
    if top >= height - 1:
        top = bottom = height - 1
        y = float(top)
    else:
        bottom = top + 1
    if left >= width - 1:
        left = right = width - 1
        x = float(left)
    else:
        right = left + 1
    down, across = y - top, x - left
    above = plane[top, left] * (1 - across) + plane[top, right] * across
    below = plane[bottom, left] * (1 - across) + plane[bottom, right] * across
    return above * (1 - down) + below * down


def align_loops(sensitive: bool) -> Any:
    def loops(
        x: np.ndarray,
        boxes: np.ndarray,
        output_size: tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = -1,
        aligned: bool = False,
    ) -> np.ndarray:
        p, q = output_size
        channels = x.shape[1] // (p * q) if sensitive else x.shape[1]
        out = np.zeros((len(boxes), channels, p, q))
        for k, c, i, j in np.ndindex(*out.shape):
            offset = 0.5 if aligned or sensitive else 0.0
            x1, y1, x2, y2 = (v * spatial_scale - offset for v in boxes[k, 1:])
            height, width = y2 - y1, x2 - x1
            if offset == 0:
                height, width = max(height, 1.0), max(width, 1.0)
            g = sampling_ratio if sampling_ratio > 0 else max(math.ceil(height / p), 0)
            h = sampling_ratio if sampling_ratio > 0 else max(math.ceil(width / q), 0)
            plane = x[int(boxes[k, 0]), (c * p + i) * q + j if sensitive else c]
            samples = [
                bilinear(plane, y1 + (i + (a + 0.5) / g) * height / p, x1 + (j + (b + 0.5) / h) * width / q)
                for a in range(g)
                for b in range(h)
            ]
            out[k, c, i, j] = sum(samples) / max(len(samples), 1)
        return out

    return loops


def draw(c: composed.Case, g: torch.Generator) -> tuple[Tensor, ...]:
    return torch.randn(c.shapes[0], generator=g, dtype=torch.float64), torch.tensor(BOXES, dtype=torch.float64)


def operator(name: str, reference: Any, *cases: composed.Case) -> Composed:
    function = getattr(ops, name)
    return Composed(
        name,
        lambda x, boxes, **a: function(x, boxes.detach(), **a),
        reference,
        cases,
        draw=draw,
        # Halves round the boxes too, so another bin may be meant: their own test is below.
        dtypes=(torch.float64, torch.float32),
        differentiable=False,
        batch=False,
        mapped=False,
        compiled=True,
        precision=64,
    )


POOLS = [
    operator(
        name,
        pool_loops(kind),
        case((2, 3 if kind != "ps" else 12, 7, 8), output_size=(2, 3) if kind != "ps" else (2, 2)),
        case((2, 2 if kind != "ps" else 18, 8, 9), output_size=(4, 1) if kind != "ps" else (3, 3), spatial_scale=0.7),
    )
    for name, kind in (("roi_pool", "max"), ("roi_avg_pool", "mean"), ("ps_roi_pool", "ps"))
]
ALIGN = operator(
    "roi_align",
    align_loops(False),
    case((2, 3, 7, 8), output_size=(2, 3)),
    case((2, 2, 8, 9), output_size=(3, 2), spatial_scale=0.6, sampling_ratio=2, aligned=True),
    case((2, 2, 5, 6), output_size=(2, 2), aligned=True),
    case((2, 1, 9, 4), output_size=(1, 4), sampling_ratio=3),
)
PS_ALIGN = operator(
    "ps_roi_align",
    align_loops(True),
    case((2, 8, 7, 8), output_size=(2, 2)),
    case((2, 6, 8, 9), output_size=(3, 1), spatial_scale=0.6, sampling_ratio=2),
)
test_regions = composed.tests(*POOLS, ALIGN, PS_ALIGN)
test_pool_mutants = composed.mutant_tests(
    POOLS[0],
    {
        "mean": lambda x, b, **a: ops.roi_avg_pool(x, b, **a),
        "halves to even": lambda x, b, **a: ops.roi_pool(x, torch.cat([b[:, :1], b[:, 1:].round()], 1), **a),
        "last row left out": lambda x, b, **a: ops.roi_pool(x, b - torch.tensor([0, 0, 0, 0, 1]), **a),
        "rows and columns exchanged": lambda x, b, **a: ops.roi_pool(x, b[:, [0, 2, 1, 4, 3]], **a),
        "first picture": lambda x, b, **a: ops.roi_pool(x, b * torch.tensor([0, 1, 1, 1, 1]), **a),
    },
)
test_align_mutants = composed.mutant_tests(
    ALIGN,
    {
        "always aligned": lambda x, b, **a: ops.roi_align(x, b, **{**a, "aligned": True}),
        "never aligned": lambda x, b, **a: ops.roi_align(x, b, **{**a, "aligned": False}),
        "one sample": lambda x, b, **a: ops.roi_align(x, b, **{**a, "sampling_ratio": 1}),
        "rounded": lambda x, b, **a: ops.roi_align(x, b.round(), **a),
        "no scale": lambda x, b, **a: ops.roi_align(x, b, **{**a, "spatial_scale": 1.0}),
        "channels in a row": lambda x, b, **a: ops.roi_align(x.flip(1), b, **a),
    },
)
test_sensitive_mutants = composed.mutant_tests(
    PS_ALIGN,
    {
        "one channel for all bins": lambda x, b, **a: ops.roi_align(
            x[:, :: a["output_size"][0] * a["output_size"][1]], b, **a, aligned=True
        ),
        "channels from the end": lambda x, b, **a: ops.ps_roi_align(x.flip(1), b, **a),
    },
)
REGIONS = [("roi_pool", 2), ("roi_avg_pool", 2), ("ps_roi_pool", 8), ("roi_align", 2), ("ps_roi_align", 8)]


@pytest.mark.parametrize(("name", "channels"), REGIONS)
def test_gradients(name: str, channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, channels, 7, 8, generator=generator, dtype=torch.float64).requires_grad_()
    boxes = torch.tensor(BOXES, dtype=torch.float64)

    def run(x: Tensor) -> Tensor:
        return getattr(ops, name)(x, boxes, 2)

    assert gradcheck(run, x, fast_mode=True)
    assert gradgradcheck(run, x, fast_mode=True)
    nhwc = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    run(nhwc).square().sum().backward()
    run(x).square().sum().backward()
    torch.testing.assert_close(nhwc.grad, x.grad, rtol=1e-12, atol=1e-12)
    outputs = []
    for count in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        leaf = x.detach().float().requires_grad_()
        run(leaf).square().sum().backward()
        outputs.append(leaf.grad)
        torch.set_num_threads(before)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("name", ["roi_pool", "roi_avg_pool", "roi_align"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(2, 2, 9, 9, generator=torch.Generator().manual_seed(1)).to(dtype)
    boxes = torch.tensor([[0, 0.5, 1.0, 6.0, 7.5], [1, 2.0, 2.0, 8.0, 3.0]])
    got = getattr(ops, name)(x, boxes, 3)
    assert got.dtype == dtype
    assert torch.equal(got, getattr(ops, name)(x.float(), boxes, 3).to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full = getattr(ops, name)(x.float(), boxes, 3)
    assert torch.equal(full, getattr(ops, name)(x.float(), boxes, 3))


def test_ties_and_nan_in_roi_pool() -> None:
    nan, inf = torch.nan, torch.inf
    x = torch.tensor([[[[1.0, 1.0, nan, 0.0], [1.0, 0.0, 0.0, nan], [-inf, -inf, -1.0, -2.0]]]], requires_grad=True)
    y = ops.roi_pool(x, torch.tensor([[0.0, 0, 0, 1, 1], [0, 2, 0, 3, 1], [0, 0, 2, 1, 2], [0, 2, 2, 3, 2]]), 1)
    assert y.flatten().tolist() == pytest.approx([1.0, nan, -inf, -1.0], nan_ok=True)
    (grad,) = torch.autograd.grad(y, x, torch.tensor([1.0, 2.0, 4.0, 8.0]).reshape(4, 1, 1, 1))
    assert grad[0, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 2], [4, 0, 8, 0]]


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_first_of_ties_and_the_last_nan_win(spoilt: bool) -> None:
    """Three numbers only, so that most bins have several maxima; the gradient says who won."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randint(-1, 2, (2, 2, 7, 8), generator=generator).double()
    if spoilt:
        x[torch.rand(x.shape, generator=generator) < 0.1] = torch.nan
    boxes = np.array(BOXES)
    grad = torch.randn(len(boxes), 2, 2, 3, generator=generator, dtype=torch.float64)
    wanted = np.zeros(x.shape)
    for k, c, i, j in np.ndindex(*grad.shape):
        rows, columns = bounds(boxes[k], (i, j), (2, 3), 1.0, x.shape[2:], True)
        winner = None
        for at in [(int(boxes[k, 0]), c, h, w) for h in rows for w in columns]:
            if winner is None or x[at] > x[winner] or x[at].isnan():
                winner = at
        if winner is not None:
            wanted[winner] += float(grad[k, c, i, j])
    leaf = x.clone().requires_grad_()
    ops.roi_pool(leaf, torch.from_numpy(boxes), (2, 3)).backward(grad)
    torch.testing.assert_close(leaf.grad, torch.from_numpy(wanted))


def test_lists_of_boxes_and_none() -> None:
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    table = torch.tensor([[0, 1.0, 1.0, 5.0, 5.0], [1, 0.0, 2.0, 3.0, 7.0]])
    for name in ("roi_pool", "roi_avg_pool", "roi_align"):
        function = getattr(ops, name)
        assert torch.equal(function(x, [table[:1, 1:], table[1:, 1:]], 2), function(x, table, 2))
        none = function(x, [torch.empty(0, 4), torch.empty(0, 4)], 2)
        assert none.shape == (0, 3, 2, 2)
        none.sum().backward()
        assert not x.grad.any()
    for layer in (nn.RoIPool(2), nn.RoIAvgPool(2), nn.RoIAlign(2)):
        assert layer(x, table).shape == (2, 3, 2, 2)
    for layer in (nn.PSRoIPool(1, 0.5), nn.PSRoIAlign(1, 0.5, 2)):
        assert layer(x, table).shape == (2, 3, 1, 1)
    assert repr(nn.RoIAlign(7, 0.25)) == "RoIAlign(output_size=7, spatial_scale=0.25, sampling_ratio=-1, aligned=False)"


def test_large_boxes_take_little_memory() -> None:
    """vision#8168: a deterministic backward over 400 x 400 took 30 GB; here 64 boxes save a few hundred kilobytes."""
    kept: list[int] = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t.numel() * t.element_size())
        return t

    x = torch.randn(1, 2, 400, 400, requires_grad=True)
    boxes = torch.tensor([[0.0, 0.0, 0.0, 400.0, 400.0]]).repeat(64, 1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = ops.roi_align(x, boxes, 7)
    assert sum(kept) <= 64 * 8 + 2 * 64 * 7 * 400 * 4
    y.sum().backward()
    assert x.grad.sum().item() == pytest.approx(64 * 2 * 49, rel=1e-3)


def roi_align_in_words(x: Tensor, boxes: Tensor) -> Tensor:
    """The operator without its kernel."""
    return REFERENCES["roi_align"](x, boxes, [2, 2], 1.0, -1, False, False)


X = torch.rand(2, 4, 6, 6)
BOX = torch.tensor([[0.0, 1.0, 1.0, 3.0, 3.0]])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.roi_pool(X[0], BOX, 2), r"\(N, C, H, W\)"),
        (lambda: ops.roi_pool(X.int(), BOX, 2), "floating point"),
        (lambda: ops.roi_pool(X, BOX[:, 1:], 2), r"give \(K, 5\)"),
        (lambda: ops.roi_align(X, [BOX[:, 1:]], 2), "1 lists of boxes"),
        (lambda: ops.roi_align(X, [BOX, BOX], 2), r"one \(L, 4\) a picture"),
        (lambda: ops.roi_align(X, BOX + torch.tensor([2.0, 0, 0, 0, 0]), 2), "pictures 2 to 2"),
        (lambda: ops.roi_align(X, BOX - torch.tensor([1.0, 0, 0, 0, 0]), 2), "pictures -1 to -1"),
        (lambda: ops.roi_align(X, BOX * torch.inf, 2), "finite"),
        (lambda: ops.roi_align(X, BOX, (2, 0)), "output_size is"),
        (
            lambda: ops.roi_align(X, BOX * 1e7, 2),
            "^box 0 asks for .* bin; clip it to the picture",
        ),
        (
            lambda: ops.roi_align(X, BOX, 2, sampling_ratio=2**21),
            "^box 0 asks for .* smaller sampling_ratio$",
        ),
        (lambda: roi_align_in_words(X, BOX * 1e7), "^box 0 asks for .* smaller sampling_ratio$"),
        (lambda: ops.ps_roi_pool(X, BOX, 3), "multiple of 9 channels"),
        (lambda: ops.ps_roi_align(X, BOX, 3), "multiple of 9 channels"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        call()
