"""Chains of fully connected layers declare themselves to the harness."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import loops
from conform import Case, Operator
from switchgrad import ops


def layers(parameters: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Weights and biases of parameters in a row: what has two axes begins a layer, what has one is its bias."""
    weights: list[Any] = []
    biases: list[Any] = []
    for parameter in parameters:
        if parameter.ndim == 2:
            weights.append(parameter)
            biases.append(None)
        else:
            biases[-1] = parameter
    return weights, biases


def _case(name: str, rows: int, widths: tuple[int, ...], *, without_bias: int = -1, **flags: Any) -> Case:
    shapes: list[tuple[int, ...]] = [(rows, widths[0])]
    for at, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes += [(outputs, inputs)] if at == without_bias else [(outputs, inputs), (outputs,)]
    return Case(name, tuple(shapes), {}, **flags)


# Rows alone, in part of a vector and in groups; widths of one number, of tiles and blocks, cut.
CASES = (
    _case("one number everywhere", 1, (1, 1, 1), small=True),
    _case("two rows", 2, (3, 4, 2), small=True),
    _case("five rows, three layers", 5, (4, 3, 5, 2), without_bias=0, small=True),
    _case("more inputs than a vector", 3, (19, 5, 3), without_bias=1),
    _case("17 rows, more than a tile", 17, (25, 51, 7)),
    _case("two blocks of inputs", 9, (130, 6, 18), without_bias=0),
    _case("a wide layer between", 6, (5, 131, 3)),
    _case("35 rows, four layers", 35, (7, 14, 13, 9, 4)),
)
LARGE = (_case("large", 131, (90, 70, 40)),)


def _peer(input: Tensor, *parameters: Tensor) -> Tensor:
    weights, biases = layers(parameters)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        input = F.relu(F.linear(input, weight, bias))
    return F.linear(input, weights[-1], biases[-1])


def call(input: Tensor, *parameters: Tensor) -> Tensor:
    """The operator, its parameters in a row."""
    return ops.mlp(input, *layers(parameters))


def _calls(x: Tensor, *parameters: Tensor) -> list[tuple[Any, tuple[Any, ...]]]:
    forward, back = torch.ops.switchgrad.mlp.default, torch.ops.switchgrad.mlp_backward.default
    weights, biases = layers(parameters)
    values, *hidden = forward(x, weights, biases, True)
    everything = [True] * (2 * len(weights) + 1)
    nothing_below = [at > 1 for at in range(len(everything))]
    return [
        (forward, (x, weights, biases, True)),
        (forward, (x, weights, biases, False)),
        *((back, (values, x, hidden, weights, wanted)) for wanted in (everything, nothing_below)),
    ]


def _kept(case: Case) -> int:
    """Bytes of the input, the parameters and the hidden layers' outputs, in float32."""
    weights = [shape for shape in case.shapes[1:] if len(shape) == 2]
    hidden = sum(case.shapes[0][0] * shape[0] for shape in weights[:-1])
    return 4 * (sum(int(np.prod(shape)) for shape in case.shapes) + hidden)


MLP = Operator(
    name="mlp",
    function=call,
    cases=CASES,
    large=LARGE,
    reference=lambda x, *parameters: (loops.mlp(x, *layers(parameters)),),
    reference_gradient=lambda grad, x, *parameters: loops.mlp_gradient(grad, x, *layers(parameters)),
    peer=_peer,
    dtypes=(torch.float64, torch.float32),
    gradient_dtypes=(torch.float64, torch.float32),
    differentiable=tuple(range(9)),
    weights=tuple(range(1, 9)),
    samples=("whole", "ties"),
    exact=False,
    exact_samples=("whole", "ties"),
    autocasts=True,
    grows=False,
    compiler="aot_eager",
    registered=_calls,
    saved_bytes=_kept,
)
