"""Kernels for blocks with one thing wrong: a few characters of their source, or what is around them, are changed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import conform
from declarations.batch_norm import BATCH_NORM_RELU, BATCH_NORM_RELU_MAX_POOL
from declarations.conv_pool import CONV_RELU_MAX_POOL
from declarations.relu_max_pool import RELU_MAX_POOL
from gpu import test_batch_norm, test_cross_entropy, test_dropout
from gpu.test_mutants import changed
from harness.interpreted import GRADIENTS, VALUES, OnTriton, caught, subset

CHECKS = (VALUES[0], GRADIENTS[0])
SINGLE: dict[str, Any] = {"dtypes": (torch.float32,), "gradient_dtypes": (torch.float32,), "samples": ("plain",)}


def held(operator: conform.Operator, *cases: str, **fields: Any) -> Callable[[], None]:
    """A check of values and gradients on a few cases."""
    few = subset(operator, *cases, **{**SINGLE, **fields})

    def check() -> None:
        with OnTriton():
            conform.check(few, CHECKS)

    return check


def every_dropout() -> None:
    test_dropout.test_masks_are_those_of_the_cpu(torch.float32, (3, 5, 7, 11))
    test_dropout.test_behind_a_bias_and_a_relu(torch.float32)


def every_loss() -> None:
    for case in test_cross_entropy.CASES[1:]:
        test_cross_entropy.check(case, torch.float32, (70, 33))


# What is checked, and which module starts the kernels of which file.
RELU, NORM, POOLED, RUNNING, DROPOUT, LOSS = (
    (held(RELU_MAX_POOL, "windows without a cell", "one row", samples=("negative", "ties")), "blocks", "block"),
    (held(BATCH_NORM_RELU, "plain", "evaluation"), "batch_norm", "batch_norm"),
    (held(BATCH_NORM_RELU_MAX_POOL, "3x3/2 padded"), "batch_norm", "batch_norm"),
    (lambda: test_batch_norm.running_statistics(torch.float32), "batch_norm", "batch_norm"),
    (every_dropout, "dropout", "dropout"),
    (every_loss, "cross_entropy", "cross_entropy"),
)
TRANSFORMED = (POOLED[0], "blocks", "block")

MUTANTS: dict[str, tuple[Any, str, str]] = {
    "dead windows keep their winner": (RELU, "code = tl.where(dead, -1, code)", "code += 0"),
    "a window without any cell gives 0": (RELU, "dead = (code >= 0) & ", "dead = "),
    "the last of equals wins": (RELU, "(key > best.to(ACC))", "(key >= best.to(ACC))"),
    "padding may win": (RELU, "wins = inside & ((", "wins = mask & (("),
    "the mean is not taken off": (TRANSFORMED, "(x.to(ACC) - mean) * scale", "x.to(ACC) * scale"),
    "scales of the first channel": (TRANSFORMED, "numbers + channels + c", "numbers + channels + 0 * c"),
    "the square of the mean stays in the variance": (NORM, "two / cells - away * away", "two / cells"),
    "the mean counts from the first cell": (NORM, "mean, var = origin + away", "mean, var = away"),
    "eps counts twice": (NORM, "(var + EPS)", "(var + 2 * EPS)"),
    "weight forgotten": (NORM, "if weight is not None", "if weight is None"),
    "dead cells have a gradient": (NORM, "tl.where(stopped, 0, tl.load(grad", "tl.where(x != x, 0, tl.load(grad"),
    "the variance has no part in the gradient": (NORM, "slope = -scale", "slope = 0 * scale"),
    "the mean has no part in the gradient": (NORM, "offset = -scale", "offset = 0 * scale"),
    "evaluation differentiates the statistics": (NORM, "if TRAINING:", "if True:"),
    "gradient of the weight not normalised": (NORM, "two / tl.sqrt(spread)", "two"),
    "winners sought by the other axis": (POOLED, "within // places[2]", "within // places[1]"),
    "sums over dead windows": (POOLED, "g = tl.load(grad + at, mask=won", "g = tl.load(grad + at, mask=mask"),
    "the input's own part is lost": (POOLED, "dx = scale * dz + offset + (x - mean)", "dx = offset + (x - mean)"),
    "biased running variance": (RUNNING, "* TAKEN_VAR", "* TAKEN"),
    "running statistics lie side by side": (RUNNING, "var + c * var_step", "var + c"),
    "the others are dropped": (DROPOUT, ">= THRESHOLD", "< THRESHOLD"),
    "not scaled": (DROPOUT, "x * scale", "x"),
    "one word for both halves": (DROPOUT, "i + 16, two", "i + 16, one"),
    "the bias by the last axis": (DROPOUT, "i // inner % channels", "i % channels"),
    "no ReLU": (DROPOUT, "x = tl.where(x <= 0, 0, x)", "x += 0"),
    "the share of the target forgotten": (LOSS, "tl.where(c == t, g - of_target, g)", "g"),
    "the target smoothed away twice": (LOSS, "1 - SMOOTHING", "1 - 2 * SMOOTHING"),
    "ignored rows count": (LOSS, "(t != ignore)", "(t == t)"),
    "smoothing spread over one class": (LOSS, "SMOOTHING, ACC) / classes", "SMOOTHING, ACC)"),
    "the mean by the number of rows": (LOSS, "    if weight is None:\n        ", "    if True:\n        "),
    "gradient of the sum": (LOSS, "scale = scale / tl.load(divisor).to(ACC)", "scale += 0"),
}  # fmt: skip


def run(mutated: tuple[Any, str, str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The check of a kernel with a change to its source."""
    (check, module, room), old, new = mutated
    launchers = importlib.import_module(f"switchgrad.gpu.{module}")
    monkeypatch.setattr(launchers, "kernels", changed(room, old, new, folder))
    check()


@pytest.mark.parametrize("target", [RELU, NORM, POOLED, RUNNING, DROPOUT, LOSS, TRANSFORMED], ids=lambda t: t[2])
def test_what_the_mutants_derive_from_is_right(target: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run((target, "@triton.jit", "@triton.jit"), monkeypatch, tmp_path)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_seen(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):  # conform.Failure is one
        run(MUTANTS[name], monkeypatch, tmp_path)


# -- what is around the kernels of a convolution


def bias_forgotten(right: Any, input: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    return right(input, weight, None, *rest)


def bias_behind_the_relu(right: Any, input: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    values, codes = right(input, weight, None, *rest)
    return values + bias.reshape(-1, 1, 1), codes


def dead_windows_count_for_the_bias(right: Any, grad: Any, *rest: Any) -> Any:
    dx, dw, _ = right(grad, *rest)
    return dx, dw, grad.sum((0, 2, 3))


def shifted_by_a_column(right: Any, *args: Any) -> Any:
    dx, dw, db = right(*args)
    return dx.roll(1, -1), dw, db


def scaled_weight(right: Any, *args: Any) -> Any:
    dx, dw, db = right(*args)
    return dx, 1.01 * dw, db


test_conv = caught(
    subset(CONV_RELU_MAX_POOL, "asymmetric", **{**SINGLE, "samples": ("ties",)}),
    CHECKS,
    {
        ("conv_max_pool", "bias forgotten"): bias_forgotten,
        ("conv_max_pool", "bias behind the ReLU"): bias_behind_the_relu,
        ("conv_max_pool_backward", "dead windows count for the bias"): dead_windows_count_for_the_bias,
        ("conv_max_pool_backward", "input's gradient a column off"): shifted_by_a_column,
        ("conv_max_pool_backward", "gradient of the weight"): scaled_weight,
    },
)
