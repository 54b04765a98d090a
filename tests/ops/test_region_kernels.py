"""The kernels of pooling over boxes, held to the reference: dtypes, layouts, threads, instruction sets, memory, NaN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from harness.engines import poisoned, threads
from switchgrad import kernels, ops
from switchgrad.kernels.schema import REFERENCES
from switchgrad.ops import regions as regions  # its operators are registered when it is opened

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LAYOUTS = (torch.contiguous_format, torch.channels_last)
HEIGHT, WIDTH = 11, 13
# Options after boxes and output size of each sum, and how many maps a channel of the result has.
SUMS: dict[str, tuple[str, tuple[Any, ...], int]] = {
    "align": ("roi_align", (0.5, 2, True, False), 1),
    "align, as many samples as cells": ("roi_align", (0.7, -1, False, False), 1),
    "align, inside out": ("roi_align", (1.0, 3, True, False), 1),
    "position-sensitive align": ("roi_align", (0.5, 2, True, True), 6),
    "average": ("roi_average", (0.5, False), 1),
    "position-sensitive average": ("roi_average", (0.6, True), 6),
}


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def some_boxes(count: int, dtype: torch.dtype) -> Tensor:
    """Of every kind: inside, sticking out, beyond the maps, points, inside out, far larger than the maps."""
    g = seeded(count)
    corner = torch.rand(count, 2, generator=g, dtype=torch.float64) * 40 - 10
    extent = torch.rand(count, 2, generator=g, dtype=torch.float64) * 24 - 3
    extent[::7] = 0
    extent[3::11] *= 20
    picture = torch.randint(0, 3, (count, 1), generator=g).double()
    picture[picture == 1] = 2  # nobody asks for picture 1
    return torch.cat([picture, corner, corner + extent], 1).to(dtype if dtype == torch.float64 else torch.float32)


def maps(channels: int, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    x = torch.randn(3, channels, HEIGHT, WIDTH, generator=seeded(channels), dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=layout)


def everywhere() -> Iterator[str]:
    for isa in kernels.isas():
        for count in (1, 3):
            with kernels.use_isa(isa), threads(count):
                yield f"{isa}, {count} threads"


def call(name: str, *arguments: Any) -> Any:
    return getattr(torch.ops.switchgrad, name)(*arguments)


def require_near(got: Tensor, wanted: Tensor, exact: Tensor, what: str) -> None:
    """At most twice as far from the reference in more precision as the reference, and a few units in the last place."""
    allowed = 2 * float((wanted.double() - exact).abs().max()) + 8 * torch.finfo(got.dtype).eps * float(
        exact.abs().max()
    )
    error = float((got.double() - exact).abs().max())
    assert error <= allowed, f"{what}: error {error:.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", SUMS)
def test_sums_and_their_adjoint(case: str, dtype: torch.dtype) -> None:
    name, options, deal = SUMS[case]
    boxes = some_boxes(40, dtype)
    for channels in (19, 1):
        first = maps(channels * deal, dtype)
        grad = torch.randn(40, channels, 2, 3, generator=seeded(2)).to(dtype)
        size = list(first.shape)
        up = REFERENCES[name](first, boxes, [2, 3], *options)
        down = REFERENCES[f"{name}_spread"](grad, boxes, size, *options, False)
        # The bins' weights are those of the dtype's own precision; only the sums are exact.
        weights = boxes.double() if dtype == torch.float64 else boxes
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        exact_up = REFERENCES[name](first.to(wide), weights, [2, 3], *options).double()
        exact_down = REFERENCES[f"{name}_spread"](grad.to(wide), weights, size, *options, False).double()
        seen: list[tuple[Tensor, Tensor]] = []
        for what in everywhere():
            for layout in LAYOUTS:
                x = first.contiguous(memory_format=layout)
                values = call(name, x, boxes, [2, 3], *options)
                last = layout == torch.channels_last
                spread = call(f"{name}_spread", grad.contiguous(memory_format=layout), boxes, size, *options, last)
                assert values.is_contiguous(memory_format=layout)
                assert spread.is_contiguous(memory_format=layout)
                seen.append((values.contiguous(), spread.contiguous()))
                require_near(values, up, exact_up, f"{case}, {what}")
                require_near(spread, down, exact_down, f"{case}, adjoint, {what}")
        for values, spread in seen[1:]:
            assert torch.equal(values, seen[0][0])
            assert torch.equal(spread, seen[0][1])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["plain", "ties", "spoilt"])
def test_maxima_and_their_places(kind: str, dtype: torch.dtype) -> None:
    boxes = some_boxes(40, dtype)
    first = maps(19, dtype)
    if kind != "plain":
        first = first.round().clamp(-1, 1)
    if kind == "spoilt":
        first[torch.rand(first.shape, generator=seeded(3)) < 0.1] = torch.nan
        first[torch.rand(first.shape, generator=seeded(4)) < 0.2] = -torch.inf
    values, winners = REFERENCES["roi_max"](first, boxes, [3, 2], 0.5)
    grad = torch.randn(values.shape, generator=seeded(5)).to(dtype)
    for what in everywhere():
        for layout in LAYOUTS:
            got, places = call("roi_max", first.contiguous(memory_format=layout), boxes, [3, 2], 0.5)
            assert got.is_contiguous(memory_format=layout)
            assert torch.equal(places, winners), what
            assert torch.equal(got.nan_to_num(777), values.nan_to_num(777)), what
            last = layout == torch.channels_last
            routed = call("roi_max_route", grad, boxes, places, list(first.shape), last)
            assert torch.equal(routed, REFERENCES["roi_max_route"](grad, boxes, winners, list(first.shape), last))
            gathered = call("roi_max_gather", first.contiguous(memory_format=layout), boxes, places)
            assert torch.equal(gathered.nan_to_num(777), values.nan_to_num(777))


def test_winners_of_another_pooling_are_harmless() -> None:
    boxes, x = some_boxes(5, torch.float32), maps(2, torch.float32)
    winners = torch.tensor([-7, 10**6, 3, 2**31 - 1, 0], dtype=torch.int32).reshape(5, 1, 1, 1).expand(5, 2, 1, 1)
    routed = call("roi_max_route", torch.ones(5, 2, 1, 1), boxes, winners, list(x.shape), False)
    assert float(routed.sum()) == 4
    assert int((call("roi_max_gather", x, boxes, winners) != 0).sum()) == 4


@pytest.mark.parametrize("case", SUMS)
def test_nan_and_infinity_reach_the_bins_that_weigh_them(case: str) -> None:
    name, options, deal = SUMS[case]
    boxes, x = some_boxes(40, torch.float32), maps(3 * deal, torch.float32)
    for number, at in ((torch.nan, 5), (torch.inf, 30), (-torch.inf, 77)):
        x.view(-1)[at::301] = number
    wanted = REFERENCES[name](x, boxes, [2, 3], *options)
    assert bool(wanted.isnan().any())
    assert bool(wanted.isinf().any())
    for what in everywhere():
        got = call(name, x, boxes, [2, 3], *options)
        torch.testing.assert_close(got, wanted, equal_nan=True, msg=lambda m, what=what: f"{what}: {m}")


def test_views_and_fresh_memory() -> None:
    boxes = some_boxes(20, torch.float32)
    whole = torch.randn(3, 6, 2 * HEIGHT, WIDTH + 3, generator=seeded(8))
    view = whole[:, ::2, ::2, 2:-1]
    for name in ("roi_pool", "roi_avg_pool", "roi_align"):
        wanted = getattr(ops, name)(view.contiguous(), boxes, 2, 0.5)
        results = []
        for byte in (0x55, 0xCC):
            with poisoned(byte):
                leaf = view.contiguous().requires_grad_()
                y = getattr(ops, name)(leaf, boxes, 2, 0.5)
                results.append((getattr(ops, name)(view, boxes, 2, 0.5), *torch.autograd.grad(y.sum(), leaf)))
        for one, other in zip(*results, strict=True):
            assert torch.equal(one, other)
        assert torch.equal(results[0][0], wanted)


def test_registrations_are_sound() -> None:
    boxes = some_boxes(6, torch.float32)
    for layout in LAYOUTS:
        x = maps(6, torch.float32, layout)
        size, last = list(x.shape), layout == torch.channels_last
        values, winners = call("roi_max", x, boxes, [2, 3], 0.5)
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("roi_align", (x, boxes, [2, 3], 0.5, 2, True, True)),
            ("roi_align_spread", (values, boxes, size, 0.5, 2, True, False, last)),
            ("roi_average", (x, boxes, [2, 3], 0.5, False)),
            ("roi_average_spread", (values, boxes, size, 0.5, False, last)),
            ("roi_max", (x, boxes, [2, 3], 0.5)),
            ("roi_max_route", (values, boxes, winners, size, last)),
            ("roi_max_gather", (x, boxes, winners)),
        ]
        for name, arguments in calls:
            opcheck(
                getattr(torch.ops.switchgrad, name).default, arguments, test_utils=("test_schema", "test_faketensor")
            )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", SUMS)
def test_the_references_follow_layout_and_dtype(case: str, layout: torch.memory_format) -> None:
    name, options, deal = SUMS[case]
    x, boxes = maps(2 * deal, torch.float16, layout), some_boxes(5, torch.float16)
    got, wanted = REFERENCES[name](x, boxes, [2, 3], *options), call(name, x, boxes, [2, 3], *options)
    assert (got.stride(), got.dtype) == (wanted.stride(), wanted.dtype)


def test_the_gradient_follows_the_layout() -> None:
    boxes = some_boxes(6, torch.float32)
    for name, deal in (("roi_pool", 1), ("roi_align", 1), ("roi_avg_pool", 1), ("ps_roi_pool", 4), ("ps_roi_align", 4)):
        for layout in LAYOUTS:
            x = maps(3 * deal, torch.float32, layout).requires_grad_()
            y = getattr(ops, name)(x, boxes, 2, 0.5)
            (grad,) = torch.autograd.grad(y.square().sum(), x)
            assert y.is_contiguous(memory_format=layout)
            assert grad.is_contiguous(memory_format=layout)


def peak_mebibytes(run: Any) -> float:
    """How far the process grows while ``run`` runs."""
    status = Path("/proc/self/status")

    def field(name: str) -> float:
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark
    before = field("VmRSS:")
    run()
    return field("VmHWM:") - before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the highest memory")
@pytest.mark.parametrize("name", ["roi_align", "roi_avg_pool", "roi_pool"])
def test_memory_is_linear_in_the_boxes(name: str) -> None:
    """vision#8168: a deterministic backward over 400 x 400 took 30 GB. Here a box costs its weights and its result."""
    x = torch.randn(1, 2, 400, 400, generator=seeded(9)).requires_grad_()
    boxes = torch.tensor([[0.0, 0.0, 0.0, 400.0, 400.0]])

    def run(count: int) -> None:
        y = getattr(ops, name)(x, boxes.expand(count, 5), 7)
        torch.autograd.grad(y.sum(), x)

    run(10)
    few, many = peak_mebibytes(lambda: run(50)), peak_mebibytes(lambda: run(350))
    assert few < 80, f"{few:.0f} MiB for 50 boxes"
    assert (many - few) / 300 < 0.03, f"{(many - few) / 300:.3f} MiB a box"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({1: torch.nan}, "NaN or infinity"),
        ({4: torch.inf}, "NaN or infinity"),
        ({0: 3.0}, "the batch has 3"),
        ({0: -1.0}, "pictures -1 to"),
    ],
)
def test_the_kernels_refuse_foreign_boxes(change: dict[int, float], sentence: str) -> None:
    """Past the checks in Python, as compiled code goes."""
    boxes, x = some_boxes(4, torch.float32), maps(2, torch.float32)
    for at, number in change.items():
        boxes[2, at] = number
    with pytest.raises(RuntimeError, match=sentence):
        call("roi_align", x, boxes, [2, 2], 1.0, 2, True, False)
    with pytest.raises(RuntimeError, match=sentence):
        call("roi_max", x, boxes, [2, 2], 1.0)


def test_too_many_samples_are_refused() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.0, 1e9, 10.0]])
    with pytest.raises(RuntimeError, match=r"more than 2\^20 samples"):
        ops.roi_align(maps(2, torch.float32), boxes, 2)
    assert ops.roi_align(maps(2, torch.float32), boxes, 2, sampling_ratio=2).shape == (1, 2, 2, 2)


@pytest.mark.parametrize("name", ["roi_pool", "roi_avg_pool", "roi_align"])
def test_no_pictures_and_no_boxes(name: str) -> None:
    empty = torch.zeros(0, 3, 5, 5, requires_grad=True)
    y = getattr(ops, name)(empty, torch.zeros(0, 5), 2)
    assert y.shape == (0, 3, 2, 2)
    (grad,) = torch.autograd.grad(y.sum(), empty)
    assert grad.shape == empty.shape


# ---- suppression ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3, 1.0])
def test_suppression_is_the_references(dtype: torch.dtype, threshold: float) -> None:
    g = seeded(11)
    corner = torch.rand(1500, 2, generator=g, dtype=torch.float64) * 100
    boxes = torch.cat([corner, corner + torch.rand(1500, 2, generator=g, dtype=torch.float64) * 20 - 1], 1).to(dtype)
    boxes[5], boxes[6, 2], boxes[7, 0], boxes[8] = torch.nan, torch.inf, -torch.inf, 0
    order = torch.rand(1500, generator=g).argsort()
    for classes in (None, torch.randint(3, (1500,), generator=g)):
        wanted = REFERENCES["nms_in_order"](boxes, order, classes, threshold)
        for what in everywhere():
            assert torch.equal(call("nms_in_order", boxes, order, classes, threshold), wanted), what


def test_suppression_takes_any_numbers() -> None:
    boxes = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 6, 6]])
    scores = torch.tensor([0.8, 0.9, 0.1])
    for given in (boxes, boxes.half(), boxes.double(), boxes.bfloat16()):
        assert ops.nms(given, scores, 0.5).tolist() == [1, 2]
    for classes in (torch.tensor([0.5, 0.25, 0.5]), torch.tensor([1, 2, 1], dtype=torch.int32)):
        assert ops.batched_nms(boxes, scores, classes, 0.5).tolist() == [1, 0, 2]
    with pytest.raises(RuntimeError, match="names box 3"):
        call("nms_in_order", boxes.float(), torch.tensor([0, 1, 3]), None, 0.5)
