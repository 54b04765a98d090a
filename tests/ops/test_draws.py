"""The draws of random pooling, for given numbers, held to loops in every dimension; wrong draws are seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import composed
import loops
from composed import Composed, case
from switchgrad import ops
from windowed import CASES

STOCHASTIC = {1: ops.stochastic_pool1d, 2: ops.stochastic_pool2d, 3: ops.stochastic_pool3d}
DROPOUT = {1: ops.max_pool_dropout1d, 2: ops.max_pool_dropout2d, 3: ops.max_pool_dropout3d}
P = 0.4


def each_window(x: np.ndarray, rule: Any, **arguments: Any) -> np.ndarray:
    """``rule(values, cells, plane, place)`` of each window, with the flat cells inside the input."""
    dims = x.ndim - 2
    along = loops.axes(x.shape[2:], **arguments)
    where = [[at for _, at in cells] for cells in loops.windows(along)]
    planes = x.reshape(x.shape[0] * x.shape[1], -1)
    found = [[rule(plane[cells], cells, i, j) for j, cells in enumerate(where)] for i, plane in enumerate(planes)]
    return np.array(found).reshape(*x.shape[: x.ndim - dims], *loops.pooled_shape(along))


def stochastic_loops(x: np.ndarray, samples: np.ndarray, **arguments: Any) -> np.ndarray:
    u = samples.reshape(x.shape[0] * x.shape[1], -1)

    def rule(values: np.ndarray, cells: list[int], plane: int, place: int) -> float:
        weights = np.maximum(values, 0)
        weights = weights if weights.any() else np.ones_like(values)
        threshold = u[plane, place] * weights.sum()
        return values[int(np.argmax(np.cumsum(weights) > threshold))]

    return each_window(x, rule, **arguments)


def dropout_loops(x: np.ndarray, samples: np.ndarray, **arguments: Any) -> np.ndarray:
    u = samples.reshape(x.shape[0] * x.shape[1], -1)

    def rule(values: np.ndarray, cells: list[int], plane: int, place: int) -> float:
        return max(0.0 if u[plane, at] < P else value for at, value in zip(cells, values, strict=True))

    return each_window(x, rule, **arguments)


def operator(name: str, dims: int) -> Composed:
    functions = {"stochastic_pool": STOCHASTIC, "max_pool_dropout": DROPOUT}[name]
    options = {} if name == "stochastic_pool" else {"p": P}

    def numbers(c: composed.Case, g: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = c.shapes[0]
        x = torch.randn(shape, generator=g, dtype=torch.float64) + 0.5
        pooled = ops.max_pool1d if dims == 1 else ops.max_pool2d if dims == 2 else ops.max_pool3d
        places = pooled(x, **c.arguments).shape if name == "stochastic_pool" else shape
        return x, torch.rand(places, generator=g, dtype=torch.float64)

    return Composed(
        f"{name}{dims}d, drawn",
        lambda x, u, **a: functions[dims](x, **a, **options, samples=u.detach()),
        stochastic_loops if name == "stochastic_pool" else dropout_loops,
        (*CASES[dims], case((1, 1, *[4] * dims), kernel_size=3, stride=1)),
        draw=numbers,
        dtypes=(torch.float64, torch.float32),
        differentiable=False,
        batched_tensors=2,
        mapped=False,
    )


test_draws = composed.tests(*(operator(n, d) for n in ("stochastic_pool", "max_pool_dropout") for d in (1, 2, 3)))
test_stochastic_mutants = composed.mutant_tests(
    operator("stochastic_pool", 2),
    {
        "the largest": lambda x, u, **a: ops.max_pool2d(x, **a),
        "from the other end": lambda x, u, **a: ops.stochastic_pool2d(x, **a, samples=1 - u),
        "squared activations": lambda x, u, **a: ops.stochastic_pool2d(x.clamp_min(0) ** 2, **a, samples=u).sqrt(),
        "shifted by the smallest": lambda x, u, **a: ops.stochastic_pool2d(x - x.amin(), **a, samples=u) + x.amin(),
        "one number for all": lambda x, u, **a: ops.stochastic_pool2d(x, **a, samples=u.mean().expand_as(u)),
        "the mean": lambda x, u, **a: ops.stochastic_pool2d(x, **a, training=False),
    },
)
test_dropout_mutants = composed.mutant_tests(
    operator("max_pool_dropout", 2),
    {
        "nothing is dropped": lambda x, u, **a: ops.max_pool2d(x, **a),
        "the others are dropped": lambda x, u, **a: ops.max_pool_dropout2d(x, **a, p=1 - P, samples=1 - u),
        "dropped cells do not compete": lambda x, u, **a: ops.max_pool2d(torch.where(u < P, -torch.inf, x), **a),
        "scaled up": lambda x, u, **a: ops.max_pool_dropout2d(x, **a, p=P, samples=u) / (1 - P),
        "the pooled map is dropped": lambda x, u, **a: (
            (y := ops.max_pool2d(x, **a)) * (u.flatten()[: y.numel()].reshape(y.shape) >= P)
        ),
    },
)
