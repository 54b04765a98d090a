"""Fully connected layers declare themselves to the harness: the kernels for thin batches, with and without a ReLU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import loops
from conform import Case, Operator
from switchgrad import ops


def _case(name: str, x: tuple[int, ...], outputs: int, *, bias: bool = True, **flags: Any) -> Case:
    w = (outputs, x[-1])
    return Case(name, (x, w, w[:1]) if bias else (x, w), {}, **flags)


# Rows go through one vector, several and groups of them; inputs and outputs through tiles, panels and blocks, cut.
CASES = (
    _case("one product", (1, 1), 1, small=True),
    _case("two rows", (2, 3), 5, small=True),
    _case("more inputs than a vector", (3, 19), 2, bias=False, small=True),
    _case("more outputs than a panel", (5, 4), 35),
    _case("a vector of rows", (16, 33), 17, bias=False),
    _case("17 rows, two tiles of inputs", (17, 50), 25),
    _case("a block of inputs and one", (4, 129), 9),
    _case("two blocks of inputs and more", (9, 301), 26),
    _case("a block of outputs and one", (3, 7), 129),
    _case("70 rows", (70, 24), 7),
)
LARGE = (
    _case("large", (20, 700), 150),
    _case("many rows", (300, 90), 70),
)


def _numbers(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _kept(relu: bool) -> Callable[[Case], int]:
    """Bytes of input, weight and, behind a ReLU, output, in float32."""

    def kept(case: Case) -> int:
        x, w = case.shapes[:2]
        return 4 * (_numbers(x) + _numbers(w) + (x[0] * w[0] if relu else 0))

    return kept


def _peer(relu: bool) -> Callable[..., Tensor]:
    def peer(*tensors: Tensor) -> Tensor:
        values = F.linear(*tensors)
        return F.relu(values) if relu else values

    return peer


def _reference(relu: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    return lambda *arrays: (loops.linear(*arrays, relu=relu),)


def _registered(relu: bool) -> Callable[..., list[tuple[Any, tuple[Any, ...]]]]:
    def calls(x: Tensor, w: Tensor, b: Tensor | None = None) -> list[tuple[Any, tuple[Any, ...]]]:
        forward, back = torch.ops.switchgrad.linear, torch.ops.switchgrad.linear_backward
        values = forward(x, w, b, relu)
        output = values if relu else None
        each = [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
        return [
            (forward.default, (x, w, b, relu)),
            *((back.default, (values, output, x, w, *wanted)) for wanted in each),
        ]

    return calls


LINEAR = Operator(
    name="linear",
    function=partial(ops.linear, algorithm="streamed"),
    cases=CASES,
    large=LARGE,
    reference=_reference(False),
    reference_gradient=partial(loops.linear_gradient, relu=False),
    peer=_peer(False),
    dtypes=(torch.float64, torch.float32),
    gradient_dtypes=(torch.float64, torch.float32),
    differentiable=(0, 1, 2),
    weights=(1, 2),
    samples=("plain", "whole", "ties"),
    exact=False,
    exact_samples=("whole", "ties"),
    autocasts=True,
    grows=False,
    compiler="aot_eager",
    registered=_registered(False),
    saved_bytes=_kept(False),
)
LINEAR_RELU = replace(
    LINEAR,
    name="linear_relu",
    function=partial(ops.linear_relu, algorithm="streamed"),
    reference=_reference(True),
    reference_gradient=partial(loops.linear_gradient, relu=True),
    peer=_peer(True),
    samples=("whole", "ties"),
    registered=_registered(True),
    saved_bytes=_kept(True),
)
