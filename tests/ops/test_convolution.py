"""Convolution by Winograd's algorithm: what the operators declare themselves to be, and which way is chosen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import conform
from declarations.convolution import FIVE2, FIVE4, RELU2, WINOGRAD2, WINOGRAD4
from harness.engines import engines, running
from switchgrad import ops
from switchgrad.errors import GeometryError
from switchgrad.ops.convolution.choice import tile_for

TILES = ("winograd2", "winograd4")

test_tiles_of_two = conform.tests(WINOGRAD2, traced=False)
test_with_relu = conform.tests(RELU2, traced=False)

TRACING = [name for name in conform.CHECKS if "compile" in name or "export" in name]


@pytest.mark.parametrize("name", TRACING)
def test_tracing(name: str) -> None:
    conform.check(replace(WINOGRAD2, cases=WINOGRAD2.cases[:2]), [name])


# Tiles of 4 always round, in each instruction set in its own way; what the others compare bit for bit is the same code.
BY_BITS = {"layouts_do_not_matter", "gradients_follow_the_layout", "vmap_is_a_loop"}
ROUNDED = [name for name in conform.CHECKS if name not in BY_BITS and name not in TRACING]


@pytest.mark.parametrize("name", ROUNDED)
def test_tiles_of_four(name: str) -> None:
    conform.check(WINOGRAD4, [name])


# What differs by the number of taps; the rest is the path of three taps.
BY_TAPS = (
    "values_equal_the_loops",
    "values_equal_the_peer",
    "gradients_equal_the_loops",
    "gradients_equal_the_peer",
    "derivatives_are_right",
)


@pytest.mark.parametrize("name", BY_TAPS)
@pytest.mark.parametrize("operator", [FIVE2, FIVE4], ids=["two", "four"])
def test_five_taps(operator: conform.Operator, name: str) -> None:
    conform.check(operator, [name])


def test_five_taps_are_registered() -> None:
    conform.check(replace(FIVE2, cases=FIVE2.cases[2:4]), ["registrations_are_sound"])


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize(("relu", "taps"), [(False, 3), (True, 3), (False, 5)])
def test_what_is_not_finite_stays_where_it_belongs(algorithm: str, value: float, relu: bool, taps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 3, 9, 8), (4, 3, taps, taps), (2, 4, 9, 8))
    x, w, grad = (torch.randn(shape, generator=generator) for shape in shapes)
    x[1, 2, 4, 3] = value
    x.requires_grad_()
    w.requires_grad_()
    found, wanted = [], []
    for results, call in ((found, ops.conv_bias_relu if relu else ops.conv2d), (wanted, None)):
        if call is None:
            y = F.conv2d(x, w, padding=taps // 2)
            y = F.relu(y) if relu else y
        else:
            y = call(x, w, padding=taps // 2, algorithm=algorithm)
        results += [y.detach(), *torch.autograd.grad(y, (x, w), grad)]
    for got, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4, equal_nan=True)


# In units of a plain sum's error: what the documentation says, and a third more.
ERRORS = {(3, "winograd2"): 1.2, (3, "winograd4"): 3, (5, "winograd2"): 2, (5, "winograd4"): 7}


@pytest.mark.parametrize(("taps", "tile"), ERRORS)
def test_errors_against_float64_are_as_documented(taps: int, tile: str) -> None:
    """Root mean squares over many outputs."""
    generator = torch.Generator().manual_seed(2)
    x, w = torch.randn(2, 48, 24, 24, generator=generator), torch.randn(32, 48, taps, taps, generator=generator)
    truth = F.conv2d(x.double(), w.double(), padding=taps // 2)
    plain = torch.zeros(truth.shape)  # tap after tap and channel after channel, as a loop adds
    padded = F.pad(x, (taps // 2,) * 4)
    for c in range(48):
        for r in range(taps):
            for s in range(taps):
                plain += w[:, c, r, s][:, None, None] * padded[:, c, None, r : r + 24, s : s + 24]
    errors = {}
    for engine in engines(WINOGRAD2):
        with running(engine):
            got = ops.conv2d(x, w, padding=taps // 2, algorithm=tile)  # type: ignore[arg-type]
        errors[engine] = float((got - truth).square().mean() / (plain - truth).square().mean()) ** 0.5
    assert all(0 < error < ERRORS[taps, tile] for error in errors.values()), errors


def tile_of(x: tuple[int, ...], filters: int, *, taps: int = 3, channels_last: bool = True) -> int:
    input = torch.empty(x).contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return tile_for(input, torch.empty(filters, x[1], taps, taps), (taps // 2,) * 2, "auto")


def test_the_choice_follows_the_costs() -> None:
    assert tile_of((64, 64, 32, 32), 64) == 4
    assert tile_of((64, 3, 32, 32), 64) == 0, "three channels fill no vector"
    assert tile_of((1, 512, 7, 7), 512) == 0, "transforming the filters costs more than it saves"
    assert tile_of((64, 64, 32, 32), 64, channels_last=False) == 4
    assert tile_of((64, 16, 32, 32), 16, channels_last=False) == 0, "copying to channels last and back costs more"
    assert tile_of((16, 64, 27, 27), 192, taps=5) == 4
    assert tile_of((1, 512, 7, 7), 512, taps=5) == 0
    assert tile_of((64, 16, 32, 32), 16, taps=5, channels_last=False) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"algorithm": "winograd3"}, "algorithm is 'winograd3'; give one of auto, direct, winograd2, winograd4"),
        ({"algorithm": "winograd4", "stride": 2}, "the stride is (2, 2) and not 1"),
        ({"algorithm": "winograd4", "dilation": 2}, "the dilation is (2, 2) and not 1"),
        ({"algorithm": "winograd2", "padding": 3}, "the padding is (3, 3), more than 2"),
        ({"algorithm": "winograd2", "groups": 2}, "there are 2 groups"),
    ],
)
def test_a_named_algorithm_that_cannot_serve_says_why(arguments: dict[str, object], words: str) -> None:
    x, w = torch.rand(1, 4, 8, 8), torch.rand(4, 2 if "groups" in arguments else 4, 3, 3)
    with pytest.raises(GeometryError) as error:
        ops.conv2d(x, w, **arguments)  # type: ignore[arg-type]
    assert words in str(error.value)


def test_dtypes_beyond_the_kernels_are_named() -> None:
    x, w = torch.rand(1, 4, 8, 8).bfloat16(), torch.rand(4, 4, 3, 3).bfloat16()
    assert "float32 or float64" in str(ops.convolution.why_not_winograd(x, w))
    assert ops.conv2d(x, w).dtype == torch.bfloat16


def test_pytorch_refuses_what_it_refuses_in_its_own_words() -> None:
    for arguments in ({"padding": -1}, {"padding": "samey"}):
        with pytest.raises(RuntimeError):
            ops.conv2d(torch.rand(1, 4, 8, 8), torch.rand(4, 4, 3, 3), **arguments)  # type: ignore[arg-type]


def test_words_for_padding() -> None:
    x = torch.rand(1, 4, 8, 8)
    for taps in (3, 5):
        w = torch.rand(4, 4, taps, taps)
        for word, padding in (("same", taps // 2), ("valid", 0)):
            by_word = ops.conv2d(x, w, padding=word, algorithm="winograd2")
            assert torch.equal(by_word, ops.conv2d(x, w, padding=padding, algorithm="winograd2"))


@pytest.mark.parametrize("shape", [(3, 32, 17, 16), (2, 70, 12, 15)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fused_blocks_pool_their_tiles(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    """Whole numbers are exact in tiles of 2, which serve these shapes: values and switches are those of two steps."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(-3, 4, shape, generator=generator).float().contiguous(memory_format=layout)
    w = torch.randint(-3, 4, (64, shape[1], 3, 3), generator=generator).float()
    b = torch.randint(-9, 10, (64,), generator=generator).float()
    wanted, switches = ops.relu_max_pool2d(F.conv2d(x, w, b, padding=1), 2, return_switches=True)
    for engine in engines(WINOGRAD2):
        with running(engine):
            values, found = ops.conv_relu_max_pool2d(x, w, b, padding=1, return_switches=True)
        assert torch.equal(values, wanted), engine
        assert torch.equal(found.codes, switches.codes), engine
        assert values.stride() == wanted.stride(), engine


def test_fused_blocks_in_tiles_of_four_are_near() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randint(-3, 4, (32, 64, 16, 16), generator=generator).float()
    w = torch.randint(-3, 4, (96, 64, 3, 3), generator=generator).float()
    exact = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)
    for engine in engines(WINOGRAD2):
        with running(engine):
            values = ops.conv_relu_max_pool2d(x, w, padding=1)
        torch.testing.assert_close(values, exact, rtol=1e-5, atol=1e-3)
        if engine != "PyTorch":
            assert not torch.equal(values, exact), f"{engine}: exact, so these were not tiles of 4, which round thirds"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_fused_blocks_keep_what_is_not_finite_where_it_belongs(value: float) -> None:
    generator = torch.Generator().manual_seed(5)
    x, w = torch.randn(4, 32, 16, 16, generator=generator), torch.randn(64, 32, 3, 3, generator=generator)
    x[1, 5, 7, 8] = value
    wanted = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)
    torch.testing.assert_close(ops.conv_relu_max_pool2d(x, w, padding=1), wanted, rtol=1e-4, atol=1e-3, equal_nan=True)


def test_threads_that_convolve_at_once_do_not_meet_in_the_kept_scratch() -> None:
    generator = torch.Generator().manual_seed(6)
    calls = []
    for size in (8, 12, 20, 28):
        x = torch.randint(-3, 4, (4, 32, size, size), generator=generator).float()
        w = torch.randint(-3, 4, (32, 32, 3, 3), generator=generator).float()
        calls.append((x, w, F.conv2d(x, w, padding=1)))

    def again_and_again(call: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> int:
        x, w, wanted = call
        found = [ops.conv2d(x, w, padding=1, algorithm="winograd2") for _ in range(25)]
        return sum(torch.equal(values, wanted) for values in found)

    with ThreadPoolExecutor(len(calls)) as pool:
        assert list(pool.map(again_and_again, calls)) == [25] * len(calls)


# Shapes for which tiles are chosen: windows that overlap, steps, and numbers of taps that are filled up with zeros.
AFTER_TILES = {
    "AlexNet 2": ((6, 64, 13, 13), (96, 64, 5, 5), {"padding": 2, "pool_size": 3, "pool_stride": 2}),
    "AlexNet 1": ((8, 3, 97, 98), (64, 3, 11, 11), {"stride": 4, "padding": 2, "pool_size": 3, "pool_stride": 2}),
    "steps of 4 by 3": ((8, 4, 76, 56), (64, 4, 12, 9), {"stride": (4, 3), "pool_size": 3, "pool_stride": 1}),
    "4x4 taps": ((6, 32, 18, 17), (48, 32, 4, 4), {"padding": (2, 1), "pool_size": (2, 3), "pool_padding": (1, 0)}),
    "rows of no window": ((4, 32, 20, 23), (64, 32, 5, 5), {"pool_size": 2, "pool_stride": 3}),
    "within tiles": ((6, 32, 20, 22), (48, 32, 5, 5), {"padding": 2}),
}


@pytest.mark.parametrize("name", AFTER_TILES)
def test_fused_blocks_pool_after_their_tiles(name: str) -> None:
    """In float64, where no winner leads by as little as rounding: values, switches and gradients are those of steps."""
    shape, filters, options = AFTER_TILES[name]
    generator = torch.Generator().manual_seed(6)
    x, w, b = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (shape, filters, filters[:1]))
    geometry = {key: options[key] for key in ("stride", "padding") if key in options}
    pooling = [options.get(key) for key in ("pool_size", "pool_stride", "pool_padding")]
    pooling = [pooling[0] or 2, pooling[1], pooling[2] or 0]
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    wanted, switches = ops.relu_max_pool2d(F.conv2d(*leaves, **geometry), *pooling, return_switches=True)
    grad = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad(wanted, leaves[1:], grad)
    for engine in engines(WINOGRAD2):
        for layout in (torch.channels_last, torch.contiguous_format):
            ours = [x.contiguous(memory_format=layout), *(t.detach().requires_grad_() for t in (w, b))]
            with running(engine):
                values, found = ops.conv_relu_max_pool2d(*ours, **options, return_switches=True)
                back = torch.autograd.grad(values, ours[1:], grad)
            torch.testing.assert_close(values, wanted, rtol=0, atol=1e-11)
            assert torch.equal(found.codes, switches.codes), engine
            assert values.is_contiguous(memory_format=layout)
            for got, right in zip(back, gradients, strict=True):
                torch.testing.assert_close(got, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in AFTER_TILES if name != "steps of 4 by 3"])
def test_these_blocks_are_in_tiles(name: str) -> None:
    """Whole numbers are exact in plain sums, and in tiles of 2 with 3 taps, as the one left out has them."""
    shape, filters, options = AFTER_TILES[name]
    generator = torch.Generator().manual_seed(8)
    x, w = (torch.randint(-3, 4, n, generator=generator).float() for n in (shape, filters))
    exact = ops.conv_relu_max_pool2d(x.double(), w.double(), **options).round().float()
    values = ops.conv_relu_max_pool2d(x, w, **options)
    torch.testing.assert_close(values, exact, rtol=1e-5, atol=1e-2)
    assert not torch.equal(values, exact)


@pytest.mark.parametrize("name", ["AlexNet 1", "AlexNet 2"])
@pytest.mark.parametrize("value", [float("nan"), -float("inf"), 3e38])
def test_blocks_pooled_after_tiles_keep_what_is_not_finite(name: str, value: float) -> None:
    shape, filters, options = AFTER_TILES[name]
    generator = torch.Generator().manual_seed(7)
    x, w = torch.randn(shape, generator=generator), torch.randn(filters, generator=generator)
    x[1, 2, 7, 8] = value
    geometry = {key: options[key] for key in ("stride", "padding") if key in options}
    wanted = F.max_pool2d(F.relu(F.conv2d(x, w, **geometry)), 3, 2)
    torch.testing.assert_close(ops.conv_relu_max_pool2d(x, w, **options), wanted, rtol=1e-4, atol=1e-2, equal_nan=True)


def test_blocks_pooled_after_tiles_do_not_depend_on_threads() -> None:
    shape, filters, options = AFTER_TILES["AlexNet 1"]
    x, w = torch.randn(shape), torch.randn(filters)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(ops.conv_relu_max_pool2d(x, w, **options, return_switches=True))
    finally:
        torch.set_num_threads(threads)
    for values, switches in found[1:]:
        assert torch.equal(values, found[0][0])
        assert torch.equal(switches.codes, found[0][1].codes)
