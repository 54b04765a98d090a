"""Pooling of parts declares itself to the harness: k-max, chunks, ranges, pyramids, VLAD, subsampling, losses.

Fractional max pooling is here for given samples, of which no product is rounded. `wrong_parts` has the mutants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

import loops
import parts
from conform import FLOATS, Case, Operator
from harness.samples import seeded
from switchgrad import ops
from switchgrad.nn import TrainableSubsampling1d, TrainableSubsampling2d, TrainableSubsampling3d

K_MAX = Operator(
    name="k_max_pool",
    function=lambda x, k: ops.k_max_pool(x, k, return_indices=True),
    values_only=ops.k_max_pool,
    cases=(
        Case("three of seven", ((2, 2, 7),), {"k": 3}, small=True),
        Case("one", ((2, 5),), {"k": 1}, small=True),
        Case("all", ((1, 2, 2, 4),), {"k": 4}),
        Case("long", ((1, 2, 151),), {"k": 70}),
    ),
    reference=lambda x, k: parts.k_largest(x, k),
    reference_gradient=lambda grad, x, k: (parts.put_at(grad, x, parts.k_largest(x, k)[1]),),
    keeps_layout=False,
    native=False,
)


def _of_bins(name: str, function: Callable[..., Tensor], bins: Callable[..., Any], cases: tuple[Case, ...]) -> Operator:
    """Maxima of parts of a sequence."""

    def found(x: np.ndarray, **a: Any) -> np.ndarray:
        rows = [parts.maxima(row, bins(x.shape[-1], **a)) for row in x.reshape(-1, x.shape[-1])]
        return np.array(rows, dtype=np.int64).reshape(*x.shape[:-1], -1)

    return Operator(
        name=name,
        function=function,
        cases=cases,
        reference=lambda x, **a: (np.take_along_axis(x, found(x, **a), -1),),
        reference_gradient=lambda grad, x, **a: (parts.put_at(grad, x, found(x, **a)),),
        dtypes=FLOATS,
    )


CHUNK_MAX = _of_bins(
    "chunk_max_pool",
    ops.chunk_max_pool,
    lambda steps, chunks: parts.chunks(steps, chunks),
    (
        Case("overlapping", ((2, 2, 7),), {"chunks": 3}, small=True),
        Case("more than steps", ((1, 2, 3),), {"chunks": 5}, small=True),
        Case("one", ((2, 3, 6),), {"chunks": 1}),
    ),
)
K_RANGE = _of_bins(
    "k_range_max_pool",
    ops.k_range_max_pool,
    parts.ranges,
    (
        Case("the last is shorter", ((2, 2, 7),), {"k": 3}, small=True),
        Case("overlapping", ((1, 3, 6),), {"k": 3, "stride": 2}, small=True),
        Case("apart", ((2, 2, 9),), {"k": 2, "stride": 4}),
    ),
)
LEVELS = (
    Case("plane", ((2, 2, 5, 4),), {"levels": (3, 2, 1)}),
    Case("signal", ((2, 2, 5),), {"levels": (2, 4)}, small=True),
    Case("volume, more bins than cells", ((1, 2, 2, 3, 4),), {"levels": (1, 3)}),
)


def pyramid(mode: Any) -> Operator:
    rounded: dict[str, Any] = {"dtypes": FLOATS, "exact": False, "same_bits": False, "cancels": True}
    rounded["samples"] = ("plain", "whole")
    kinds = ("plain", "ties", "nan", "negative")  # gradients of several levels meet in a cell, and are rounded
    maxima = {"dtypes": FLOATS[:2], "exact": False, "exact_samples": kinds, "samples": kinds}
    return Operator(
        name=f"spatial_pyramid_pool {mode}",
        function=lambda x, levels: ops.spatial_pyramid_pool(x, levels, mode),
        cases=LEVELS,
        reference=lambda x, levels: (parts.pyramid_pool(x, levels, mode),),
        reference_gradient=lambda grad, x, levels: (parts.pyramid_gradient(grad, x, levels, mode),),
        unbatched=False,
        keeps_layout=False,
        native=False,
        **(maxima if mode == "max" else rounded),
    )


VLAD = Operator(
    name="vlad",
    function=ops.vlad,
    cases=(
        Case("residuals", ((2, 9, 3), (4, 3)), {"normalise": False}),
        Case("unit lengths", ((2, 7, 2), (3, 2))),
        Case("shares", ((2, 5, 2), (3, 2)), {"alpha": 0.25, "normalise": False}),
        Case("shares, unit lengths", ((1, 3, 2), (2, 2)), {"alpha": 0.125}, small=True),
        Case("one centre", ((1, 4, 2), (1, 2))),
    ),
    reference=lambda x, codebook, alpha=None, normalise=True: (parts.vlad(x, codebook, alpha, normalise),),
    dtypes=FLOATS,
    samples=("whole", "ties"),  # so that no distance is rounded, and some are equal
    weights=(1,),
    differentiable=(0, 1),
    exact=False,
    same_bits=False,
    cancels=True,
    unbatched=False,
    keeps_layout=False,
    native=False,
)
LAYERS: dict[int, Any] = {1: TrainableSubsampling1d, 2: TrainableSubsampling2d, 3: TrainableSubsampling3d}


def _subsample(x: Tensor, coefficient: Tensor, bias: Tensor, kernel: Any, stride: Any) -> Tensor:
    layer: nn.Module = LAYERS[len(kernel)](len(bias), kernel, stride)
    return functional_call(layer, {"coefficient": coefficient, "bias": bias}, (x,))


SUBSAMPLING = Operator(
    name="TrainableSubsampling",
    function=_subsample,
    cases=(
        Case("LeNet's", ((2, 3, 6, 5), (3,), (3,)), {"kernel": (2, 2), "stride": (2, 2)}),
        Case("overlapping", ((1, 2, 3, 4), (2,), (2,)), {"kernel": (2, 2), "stride": (1, 2)}, small=True),
        Case("signal", ((2, 3, 7), (3,), (3,)), {"kernel": (2,), "stride": (3,)}),
        Case("volume", ((1, 2, 3, 4, 4), (2,), (2,)), {"kernel": (2, 1, 2), "stride": (1, 2, 2)}),
    ),
    reference=lambda *given, **a: (parts.subsample(*given, **a),),
    reference_gradient=lambda *given, **a: parts.subsample_gradient(*given, **a),
    dtypes=FLOATS,
    samples=("plain", "whole", "ties"),
    weights=(1, 2),
    differentiable=(0, 1, 2),
    exact=False,
    exact_samples=("whole", "ties"),
    same_bits=False,
    native=False,
)


def _weighted(losses: np.ndarray, ratio: float, p: float, per_sample: bool = False) -> tuple[np.ndarray, ...]:
    rows = losses.reshape(len(losses), -1) if per_sample else losses.reshape(1, -1)
    sums = [(parts.loss_weights(row, ratio, p) * row).sum() for row in rows]
    return (np.array(sums if per_sample else sums[0], dtype=parts.wide(losses)),)


def _weights(grad: np.ndarray, losses: np.ndarray, ratio: float, p: float, per_sample: bool = False) -> tuple[Any, ...]:
    rows, sent = (losses, grad) if per_sample else (losses[None], grad[None])
    found = [g * parts.loss_weights(row, ratio, p) for g, row in zip(sent, rows, strict=True)]
    return (np.array(found, dtype=parts.wide(losses)).reshape(losses.shape),)


LOSS_MAX = Operator(
    name="loss_max_pool",
    function=ops.loss_max_pool,
    cases=(
        Case("the paper's", ((2, 4, 3),), {"ratio": 0.3, "p": 1.7}),
        Case("each sample", ((3, 2, 4),), {"ratio": 0.5, "p": 2.0, "per_sample": True}),
        Case("the greatest", ((2, 3, 2),), {"ratio": 0.4, "p": 1.0}),
        Case("one", ((1, 5),), {"ratio": 0.01, "p": 4.0}),
        Case("all alike", ((2, 4),), {"ratio": 1.0, "p": 3.0}),
        Case("no bound", ((2, 5),), {"ratio": 0.5, "p": float("inf")}),
    ),
    reference=_weighted,
    reference_gradient=_weights,
    dtypes=FLOATS,
    samples=("plain", "whole", "negative", "distinct"),
    exact=False,
    same_bits=False,
    cancels=True,
    yardstick=4,
    unbatched=False,
    empty_batch=False,
    keeps_layout=False,
    native=False,
)
POOLS: dict[int, Any] = {1: ops.fractional_max_pool1d, 2: ops.fractional_max_pool2d, 3: ops.fractional_max_pool3d}


def _fractional(x: Tensor, samples: Tensor, kernel: Any, places: Any) -> tuple[Tensor, Tensor]:
    return POOLS[len(kernel)](x, kernel, places, return_indices=True, _random_samples=samples)


def _eighths(case: Case, fresh: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    x = fresh(case.shapes[0])
    return x, (torch.randint(8, case.shapes[1], generator=seeded(case.name)) / 8).to(x.dtype)


FRACTIONAL = Operator(
    name="fractional_max_pool",
    function=_fractional,
    cases=(
        Case("plane", ((2, 2, 11, 9), (2, 2, 2)), {"kernel": (2, 2), "places": (5, 3)}),
        Case("small plane", ((2, 1, 4, 4), (2, 1, 2)), {"kernel": (2, 1), "places": (2, 3)}, small=True),
        Case("one place", ((1, 2, 5, 7), (1, 2, 2)), {"kernel": (2, 3), "places": (1, 5)}),
        Case("signal", ((2, 3, 15), (2, 3, 1)), {"kernel": (3,), "places": (9,)}),
        Case("volume", ((1, 2, 6, 7, 8), (1, 2, 3)), {"kernel": (1, 2, 3), "places": (5, 3, 3)}),
    ),
    reference=lambda x, samples, **a: parts.fractional(x, samples, **a),
    reference_gradient=lambda grad, x, samples, **a: (
        loops.put_back(grad, parts.fractional(x, samples, **a)[1], x.shape[2:], add=True),
    ),
    draw=_eighths,
    dtypes=(torch.float64, torch.float32, torch.float16),
    gradient_dtypes=(torch.float64, torch.float32),
    samples=("plain", "ties", "nan", "negative"),
    unbatched=False,
    empty_batch=False,
)


def _uniform(case: Case, fresh: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    x = fresh(case.shapes[0])
    return x, torch.rand(case.shapes[1], generator=seeded(case.name), dtype=torch.float64).to(x.dtype)


def fractional_random(x: Tensor, samples: Tensor, kernel: Any, places: Any) -> tuple[Tensor, Tensor]:
    given = {"return_indices": True, "mode": "random", "_random_samples": samples}
    return POOLS[len(kernel)](x, kernel, places, **given)


FRACTIONAL_RANDOM = replace(
    FRACTIONAL,
    name="fractional_max_pool, random",
    function=fractional_random,
    cases=(
        Case("plane", ((2, 2, 11, 9), (2, 2, 2, 5)), {"kernel": (2, 2), "places": (6, 4)}),
        Case("small plane", ((2, 1, 4, 5), (2, 1, 2, 2)), {"kernel": (2, 1), "places": (2, 3)}, small=True),
        Case("signal", ((2, 3, 15), (2, 3, 1, 7)), {"kernel": (3,), "places": (8,)}),
        Case("volume", ((1, 2, 6, 7, 8), (1, 2, 3, 4)), {"kernel": (1, 2, 3), "places": (5, 4, 1)}),
    ),
    reference=lambda x, samples, **a: parts.fractional(x, samples, **a, starts_of=parts.random_starts),
    reference_gradient=lambda grad, x, samples, **a: (
        loops.put_back(
            grad, parts.fractional(x, samples, **a, starts_of=parts.random_starts)[1], x.shape[2:], add=True
        ),
    ),
    draw=_uniform,
    dtypes=(torch.float64, torch.float32),
)
