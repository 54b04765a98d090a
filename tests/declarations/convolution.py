"""Convolution by Winograd's algorithm declares itself to the harness: both sizes of tiles and of
kernels, with and without a ReLU."""

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


def _case(name: str, x: tuple[int, ...], filters: int, *, taps: int = 3, bias: bool = True, **arguments: Any) -> Case:
    flags = {flag: arguments.pop(flag) for flag in ("small",) if flag in arguments}
    w = (filters, x[1], taps, taps)
    return Case(name, (x, w, w[:1]) if bias else (x, w), arguments, **flags)


# Channels in and out go through 1, 2, 3, 5, 16, 17, 33, 64 and 70, maps from one tile to several, whole and cut.
CASES = (
    _case("one output", (2, 2, 3, 3), 3, small=True),
    _case("padded", (1, 2, 3, 4), 2, padding=1, bias=False, small=True),
    _case("padded by two", (1, 1, 2, 1), 2, padding=2, small=True),
    _case("rows padded alone", (2, 3, 5, 6), 4, padding=(1, 0)),
    _case("several tiles", (2, 3, 9, 11), 5, padding=1),
    _case("cut tiles", (1, 5, 8, 7), 3),
    _case("16 to 17", (1, 16, 4, 5), 17, padding=1),
    _case("17 to 16", (2, 17, 5, 4), 16, padding=1, bias=False),
    _case("33 to 70", (1, 33, 3, 4), 70, padding=1),
    _case("64 to 33", (1, 64, 4, 3), 33, padding=1),
    _case("70 to 64", (1, 70, 3, 5), 64),
    _case("one row", (1, 2, 1, 9), 3, padding=1),
    _case("wide", (1, 3, 3, 75), 3, padding=1),
)
LARGE = (
    _case("large", (3, 16, 26, 27), 33, padding=1),
    _case("blocks of tiles", (2, 65, 45, 44), 18, padding=1),
)

OF_FIVE = (
    _case("one output", (2, 2, 5, 5), 3, taps=5, small=True),
    _case("padded", (1, 2, 3, 4), 2, taps=5, padding=2, bias=False, small=True),
    _case("padded by four", (1, 1, 2, 1), 2, taps=5, padding=4, small=True),
    _case("rows padded alone", (2, 3, 6, 7), 4, taps=5, padding=(1, 0)),
    _case("several tiles", (2, 3, 9, 11), 5, taps=5, padding=2),
    _case("cut tiles", (1, 5, 10, 9), 3, taps=5),
    _case("33 to 18", (1, 33, 5, 4), 18, taps=5, padding=2),
)


def _function(call: Callable[..., Tensor], algorithm: str) -> Callable[..., Tensor]:
    return partial(call, algorithm=algorithm)


def _reference(relu: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    def reference(*arrays: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        values = loops.conv(*arrays, **arguments)
        return (np.where(values <= 0, 0, values).astype(values.dtype) if relu else values,)

    return reference


def _gradient(relu: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    return partial(loops.conv_pool_gradient, relu=relu, pool_size=1)


def _peer(relu: bool) -> Callable[..., Tensor]:
    def peer(*tensors: Tensor, **arguments: Any) -> Tensor:
        values = F.conv2d(*tensors, **arguments)
        return F.relu(values) if relu else values

    return peer


def _registered(relu: bool, tile: int) -> Callable[..., list[tuple[Any, tuple[Any, ...]]]]:
    def calls(x: Tensor, w: Tensor, b: Tensor | None = None, *, padding: Any = 0) -> list[tuple[Any, tuple[Any, ...]]]:
        pads = [padding, padding] if isinstance(padding, int) else list(padding)
        forward, back = torch.ops.switchgrad.winograd_conv, torch.ops.switchgrad.winograd_conv_backward
        values = forward(x, w, b, pads, relu, tile)
        return [
            (forward.default, (x, w, b, pads, relu, tile)),
            (back.default, (values, x, w, pads, tile, True, True)),
            (back.default, (values, x, w, pads, tile, True, False)),
            (back.default, (values, x, w, pads, tile, False, True)),
        ]

    return calls


WINOGRAD2 = Operator(
    name="conv2d in tiles of 2",
    function=_function(ops.conv2d, "winograd2"),
    cases=CASES,
    large=LARGE,
    reference=_reference(False),
    reference_gradient=_gradient(False),
    peer=_peer(False),
    dtypes=(torch.float64, torch.float32),
    gradient_dtypes=(torch.float64, torch.float32),
    differentiable=(0, 1, 2),
    weights=(1, 2),
    samples=("plain", "whole", "ties"),
    exact=False,
    exact_samples=("whole", "ties"),  # halves and quarters of whole numbers are no sums that round
    autocasts=True,
    compiler="aot_eager",
    registered=_registered(False, 2),
)
# In the mean the error of tiles of 4 is 2 to 3 times that of a plain sum; of few terms a plain sum hardly errs at all.
WINOGRAD4 = replace(
    WINOGRAD2,
    name="conv2d in tiles of 4",
    function=_function(ops.conv2d, "winograd4"),
    exact_samples=(),
    cancels=True,
    yardstick=16,
    registered=_registered(False, 4),
)
RELU2 = replace(
    WINOGRAD2,
    name="conv_bias_relu in tiles of 2",
    function=_function(ops.conv_bias_relu, "winograd2"),
    reference=_reference(True),
    reference_gradient=_gradient(True),
    peer=_peer(True),
    samples=("whole", "ties"),
    registered=_registered(True, 2),
)
# Five taps take points whose powers round, so tiles of 2 are as those of 4 with three taps.
FIVE2 = replace(
    WINOGRAD4,
    name="conv2d of 5x5 taps in tiles of 2",
    function=_function(ops.conv2d, "winograd2"),
    cases=OF_FIVE,
    large=(_case("large", (3, 16, 22, 23), 33, taps=5, padding=2),),
    registered=_registered(False, 2),
)
FIVE4 = replace(
    FIVE2,
    name="conv2d of 5x5 taps in tiles of 4",
    function=_function(ops.conv2d, "winograd4"),
    yardstick=48,
    registered=_registered(False, 4),
)
