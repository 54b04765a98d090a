"""Kernels with one thing wrong: a few characters of their source are changed, and the same checks must see it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import conform
from conform import Case
from declarations.avg_pool import adaptive_avg_pool, avg_pool
from declarations.max_pool import max_pool
from declarations.random_pool import random_pool
from gpu.test_regions import BOXES, maps
from harness.interpreted import OnTriton, subset
from ops.test_lp_pool import declaration
from switchgrad import geometry, gpu, ops
from switchgrad.gpu import adaptive_pool
from switchgrad.kernels.schema import REFERENCES
from switchgrad.ops import lp_fused
from switchgrad.ops import regions as regions  # its operators are registered when it is opened

BOTH = ("values_equal_the_loops", "gradients_equal_the_loops")
SINGLE = {"dtypes": (torch.float32,), "gradient_dtypes": (torch.float32,)}
WINDOW = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1), "dilation": (1, 2)}
SHAPE = ((1, 2, 5, 6),)


def held(operator: conform.Operator, *cases: Case, samples: tuple[str, ...] = ("plain",)) -> Callable[[], None]:
    """A check of values and gradients on a few cases."""
    small = replace(subset(operator, **SINGLE, samples=samples), cases=cases)
    return lambda: conform.check(small, BOTH)


def norms() -> None:
    """Values by the harness, the gradient by the reference."""
    held(declaration(2), Case("L3", SHAPE, {"norm_type": 3, **WINDOW, "padding": 0}))()
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    y = ops.lp_pool2d(x, 3, 2, 1)
    arguments = (y, x, y, 3.0, geometry.window(2, 2, 1).numbers)
    torch.testing.assert_close(
        torch.ops.switchgrad.lp_pool_spread(*arguments), REFERENCES["lp_pool_spread"](*arguments)
    )


def boxes() -> None:
    """Every operator over boxes by its reference."""
    x = maps(2)
    for name, options in (("roi_align", (0.7, 2, True, False)), ("roi_average", (0.5, False))):
        wanted = REFERENCES[name](x, BOXES, [2, 3], *options)
        torch.testing.assert_close(getattr(torch.ops.switchgrad, name)(x, BOXES, [2, 3], *options), wanted)
        back = (wanted, BOXES, x.shape, *options, False)
        got = getattr(torch.ops.switchgrad, f"{name}_spread")(*back)
        torch.testing.assert_close(got, REFERENCES[f"{name}_spread"](*back))
    for y in (x, x.sign(), torch.where(x > 4, torch.nan, x)):
        wanted = REFERENCES["roi_max"](y, BOXES, [2, 3], 0.5)
        for ours, theirs in zip(torch.ops.switchgrad.roi_max(y, BOXES, [2, 3], 0.5), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, equal_nan=True)
    back = (torch.randn_like(x[:1, :, :2, :3]).expand(7, -1, -1, -1), BOXES, wanted[1], x.shape, False)
    torch.testing.assert_close(torch.ops.switchgrad.roi_max_route(*back), REFERENCES["roi_max_route"](*back))


CHECKS: dict[str, Callable[[], None]] = {
    "max_pool": held(max_pool(2), Case("all different", SHAPE, WINDOW), samples=("ties", "nan")),
    "avg_pool": held(
        avg_pool(2),
        Case("counting", SHAPE, {**WINDOW, "ceil_mode": True}),
        Case("not counting", SHAPE, {**WINDOW, "count_include_pad": False}),
        Case("divided", SHAPE, {**WINDOW, "divisor_override": -2}),
    ),
    "adaptive_pool": held(adaptive_avg_pool(2), Case("bins", ((1, 2, 5, 7),), {"output_size": (2, 5)})),
    "whole maps": held(
        max_pool(2), Case("whole", ((1, 4, 5, 7),), {"kernel_size": (5, 7)}), samples=("ties", "nan")
    ),
    "stochastic_pool": held(
        random_pool("stochastic_pool", 2), Case("all different", SHAPE, WINDOW), samples=("plain", "negative")
    ),
    "max_pool_dropout": held(
        random_pool("max_pool_dropout", 2), Case("all different", SHAPE, WINDOW), samples=("plain", "ties")
    ),
    "lp_pool": norms,
    "regions": boxes,
}  # fmt: skip
ROOMS = {"whole maps": "adaptive_pool", "stochastic_pool": "random_pool", "max_pool_dropout": "random_pool"}
SOURCES = {"adaptive_pool": "bins_kernels"}

MUTANTS: dict[str, dict[str, tuple[str, str]]] = {
    "max_pool": {
        "the last of equals wins": ("(key > best.to(ACC))", "(key >= best.to(ACC))"),
        "NaN never wins": ("| (key != key)", ""),
        "the first NaN wins": ("(key != key)", "((key != key) & (best.to(ACC) == best.to(ACC)))"),
        "padding is 0 and may win": ("wins = inside & ((", "wins = mask & (("),
        "switches count from 1": ("+ k, code)", "+ k + 1, code)"),
        "switches of the transposed window": ("(i * K[1] + j) * K[2] + k, code", "(i * K[1] + k) * K[2] + j, code"),
        "the padding is ignored": ("h * S[1] - B[1], w", "h * S[1], w"),
        "the stride of the other axis": ("w * S[2] - B[2]\n    best", "w * S[1] - B[2]\n    best"),
        "the dilation is ignored": ("k * D[2] * strides[4]", "k * strides[4]"),
        "windows overlap unseen": ("(D[1] * (K[1] - 1) + S[1]) // S[1]", "1"),
        "the last window alone counts": ("sum = sum + g if ADDED", "sum = g if ADDED"),
        "some other cell's gradient": ("code.to(tl.int32) == cell", "code.to(tl.int32) >= cell"),
        "indices of the transposed window": ("code % K[2] * D[2]", "code % K[1] * D[2]"),
    },
    "avg_pool": {
        "padding at the end never counts": ("size + end - start", "size - start"),
        "padding at the beginning counts": ("K) - before", "K)"),
        "a negative divisor is forgotten": ("if DIVISOR != 0", "if DIVISOR > 0"),
        "gradients are not divided": ("sum += quotient(g, divisor, ACC)", "sum += g"),
        "sums are not divided": ("mean = quotient(total, ", "mean = quotient(total, 1.0 + 0 * "),
        "the dilation is ignored": ("k * D[2] * strides[4]", "k * strides[4]"),
    },
    "adaptive_pool": {
        "bins end early": ("((w + 1) * size[2] + places[2] - 1)", "((w + 1) * size[2])"),
        "divided by the largest bin": ("(deep * high * wide).to(ACC), ACC)", "(deep * high * most).to(ACC), ACC)"),
        "rows and columns exchanged": ("cell // wide % high, cell % wide\n", "cell % wide, cell // wide % high\n"),
        "one bin a cell": ("range(meets[2])", "range(1)"),
    },
    "whole maps": {
        "any of equals wins": ("tl.min(tl.where((found", "tl.max(tl.where((found"),
        "NaN is nothing": ("tl.where(nan >= 0, nan, index)", "index"),
        "the last of a thread's equals wins": ("(key > best) |", "(key >= best) |"),
    },
    "stochastic_pool": {
        "the low bits": ("(word >> 8)", "(word & 0xFFFFFF)"),
        "from the other end": ("drawn * total, -LOWEST)", "total - drawn * total, -LOWEST)"),
        "absolute activations": ("tl.where(x > 0, x, 0.0) * scale", "tl.abs(x) * scale"),
        "windows without an activation are not drawn": ("best - best == 0", "(best > 0) & (best - best == 0)"),
        "the same numbers for every channel": ("((n * channels + c) * places[0]", "((n * channels) * places[0]"),
    },
    "max_pool_dropout": {
        "a dropped winner keeps its switch": ("tl.where(kept, cell, -1)", "cell"),
        "the others are dropped": (">= threshold", "< threshold"),
        "dropped cells do not compete": ("wins = inside & (", "wins = inside & kept & ("),
        "the last of equals wins": ("(key > best)", "(key >= best)"),
        "cells counted by the window": ("((i * size[1] + j) * size[2] + k)", "cell"),
    },
    "lp_pool": {
        "signed powers": ("tl.abs(tl.load(first", "(tl.load(first"),
        "no root": ("power(total, ROOT)", "total"),
        "the sign is lost": ("tl.where(signed < 0, -sum, sum)", "sum"),
        "a power too many": ("g * power(share, POWER)", "g * power(share, POWER) * share"),
    },
    "regions": {
        "samples are not interpolated": ("share * (1 - upper)", "share"),
        "samples beyond the border are lost": ("(at >= -1)", "(at >= 0)"),
        "samples at the corners of their parts": ("0.5, real) + i", "0.0, real) + i"),
        "corners are rounded down": ("tl.floor(tl.abs(x) + 0.5)", "tl.floor(tl.abs(x))"),
        "the second corner does not belong to the box": ("end - start + INCLUSIVE", "end - start"),
        "the last of equals wins": ("key > value.to(ACC)", "key >= value.to(ACC)"),
        "the last box alone counts": ("sum += tl.where(won, g, 0)", "sum = tl.where(won, g, sum)"),
        "a bin's first row gets nothing": ("(first <= y) & (y < last)", "(first < y) & (y < last)"),
    },
}  # fmt: skip


def changed(room: str, old: str, new: str, folder: Path) -> Any:
    """The kernels of a room, anew, with a change to their source."""
    source = Path(gpu.__path__[0]) / f"{SOURCES.get(room, f'{room}_kernels')}.py"
    text = source.read_text()
    if old not in text:
        raise LookupError(f"{source.name} does not say {old!r} any more")
    copy = folder / "changed.py"
    copy.write_text(text.replace(old, new))
    spec = importlib.util.spec_from_file_location(f"changed_{abs(hash(str(folder)))}", copy)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str, str], None]:
    """Runs an operator's check with a change to its kernels."""

    def run(name: str, old: str, new: str) -> None:
        room = ROOMS.get(name, name)
        launchers = importlib.import_module(f"switchgrad.gpu.{room}")
        monkeypatch.setattr(launchers, "kernels", changed(room, old, new, tmp_path))
        if name == "whole maps":
            monkeypatch.setattr(adaptive_pool, "TILE", 16)  # so that a thread has several cells of a small map
        monkeypatch.setattr(lp_fused, "has_kernel", lambda *_: True)
        with OnTriton():
            CHECKS[name]()

    return run


@pytest.mark.parametrize("name", CHECKS)
def test_what_the_mutants_derive_from_is_right(name: str, run: Callable[[str, str, str], None]) -> None:
    run(name, "@triton.jit", "@triton.jit")


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, found in MUTANTS.items() for wrong in found])
def test_mutant_is_seen(name: str, wrong: str, run: Callable[[str, str, str], None]) -> None:
    with pytest.raises(AssertionError):  # conform.Failure is one
        run(name, *MUTANTS[name][wrong])
