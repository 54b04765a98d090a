"""Blurred pooling and averages under weights declare themselves to the harness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import laws
import loops
from conform import FLOATS, Case, Operator
from switchgrad import geometry, nn, ops

BLUR = {1: ops.blur_pool1d, 2: ops.blur_pool2d, 3: ops.blur_pool3d}
WEIGHTED = {1: ops.weighted_avg_pool1d, 2: ops.weighted_avg_pool2d, 3: ops.weighted_avg_pool3d}
BLUR_LAYER = {1: nn.BlurPool1d, 2: nn.BlurPool2d, 3: nn.BlurPool3d}
WEIGHTED_LAYER = {1: nn.WeightedAvgPool1d, 2: nn.WeightedAvgPool2d, 3: nn.WeightedAvgPool3d}
Cells = list[list[tuple[int, Any]]]  # for each place in row-major order: flat cells of the input with their weights


def _sums(x: np.ndarray, where: Cells, places: Sequence[int]) -> np.ndarray:
    lead = x.shape[: x.ndim - len(places)]
    planes = x.reshape(math.prod(lead), -1)
    found = np.zeros((len(planes), len(where)), dtype=x.dtype)
    for plane, numbers in enumerate(planes):
        for place, cells in enumerate(where):
            found[plane, place] = sum((weight * numbers[at] for at, weight in cells), x.dtype.type(0))
    return found.reshape(*lead, *places)


def _shares(grad: np.ndarray, where: Cells, size: Sequence[int]) -> np.ndarray:
    lead = grad.shape[: grad.ndim - len(size)]
    found = np.zeros((math.prod(lead), math.prod(size)), dtype=grad.dtype)
    for plane, numbers in enumerate(grad.reshape(len(found), -1)):
        for number, cells in zip(numbers, where, strict=True):
            for at, weight in cells:
                found[plane, at] += weight * number
    return found.reshape(*lead, *size)


# ---- blur --------------------------------------------------------------------------------------------------------


def _beyond(at: int, size: int, mode: str) -> int | None:
    """Which cell lies at a place beyond the border."""
    if 0 <= at < size:
        return at
    if mode == "reflect":
        return -at if at < 0 else 2 * (size - 1) - at
    return min(max(at, 0), size - 1) if mode == "replicate" else None


def _blurred(size: Sequence[int], kernel_size: int, stride: Any, padding_mode: str) -> tuple[Cells, list[int]]:
    steps = (stride,) * len(size) if isinstance(stride, int) else stride
    row = [math.comb(kernel_size - 1, i) / 2 ** (kernel_size - 1) for i in range(kernel_size)]
    places = [(h - 1) // s + 1 for h, s in zip(size, steps, strict=True)]
    where: Cells = []
    for place in itertools.product(*map(range, places)):
        cells = []
        for at in itertools.product(range(kernel_size), repeat=len(size)):
            near = [p * s - (kernel_size - 1) // 2 + i for p, s, i in zip(place, steps, at, strict=True)]
            found = [_beyond(i, h, padding_mode) for i, h in zip(near, size, strict=True)]
            if None not in found:
                cells.append((int(np.ravel_multi_index(found, size)), math.prod(row[i] for i in at)))
        where.append(cells)
    return where, places


def _blur_options(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"kernel_size": 3, "stride": 2, "padding_mode": "reflect"} | arguments


def blur_pool(dims: int) -> Operator:
    """The declaration of blurred pooling: weights are small fractions, so whole numbers are summed without rounding."""

    def value(x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        return (_sums(x, *_blurred(x.shape[-dims:], **_blur_options(arguments))),)

    def gradient(grad: np.ndarray, x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        size = x.shape[-dims:]
        return (_shares(grad, _blurred(size, **_blur_options(arguments))[0], size),)

    return Operator(
        name=f"blur_pool{dims}d",
        function=BLUR[dims],
        cases=BLUR_CASES[dims],
        reference=value,
        reference_gradient=gradient,
        exact=False,
        exact_samples=("whole", "ties", "special"),
        dtypes=FLOATS,
        samples=("plain", "ties", "negative"),
        laws=(laws.Adjoint(),),
        large=(Case("large", (LARGE[dims],), {"kernel_size": 5}),),
        saved_bytes=lambda case: 0,
        layer=lambda case: BLUR_LAYER[dims](**case.arguments),
        grows=False,
    )


LARGE = {1: (4, 24, 2000), 2: (2, 40, 40, 41), 3: (1, 16, 9, 20, 21)}
BLUR_CASES = {
    1: (
        Case("3/2", ((1, 2, 9),), small=True),
        Case("5/3, repeated", ((1, 2, 36),), {"kernel_size": 5, "stride": 3, "padding_mode": "replicate"}),
    ),
    2: (
        Case("3/2", ((1, 2, 4, 5),), small=True),
        Case("4/1, empty", ((1, 2, 5, 4),), {"kernel_size": 4, "stride": 1, "padding_mode": "zeros"}, small=True),
        Case("5/(1, 3), repeated", ((2, 1, 7, 6),), {"kernel_size": 5, "stride": (1, 3), "padding_mode": "replicate"}),
        Case("2/2", ((1, 3, 5, 8),), {"kernel_size": 2}),
        Case("1/2", ((1, 2, 3, 7),), {"kernel_size": 1}),
        Case("wide 3/2", ((1, 1, 3, 75),)),
        Case("35 channels", ((1, 35, 4, 3),)),
    ),
    3: (
        Case("3/2", ((1, 1, 3, 4, 5),), small=True),
        Case("4/(2, 1, 2)", ((1, 2, 4, 3, 5),), {"kernel_size": 4, "stride": (2, 1, 2), "padding_mode": "replicate"}),
    ),
}


# ---- weighted averages -------------------------------------------------------------------------------------------


def _weighted(dtype: Any, size: Sequence[int], sigma: float, **window: Any) -> tuple[Cells, list[int]]:
    along = loops.axes(size, **window)
    distance = [
        sum(((i - (a.kernel - 1) / 2) * a.dilation) ** 2 for i, a in zip(at, along, strict=True))
        for at in itertools.product(*(range(a.kernel) for a in along))
    ]
    where: Cells = []
    for cells in loops.windows(along):
        weights = [math.exp(-distance[offset] / (2 * sigma**2)) for offset, _ in cells]
        total = math.fsum(weights)
        where.append([(at, dtype.type(w / total)) for w, (_, at) in zip(weights, cells, strict=True)])
    return where, list(loops.pooled_shape(along))


def weighted_avg_pool(dims: int) -> Operator:
    """The declaration of averages under Gaussian weights."""

    def value(x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        return (_sums(x, *_weighted(x.dtype, x.shape[-dims:], **arguments)),)

    def gradient(grad: np.ndarray, x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        size = x.shape[-dims:]
        return (_shares(grad, _weighted(grad.dtype, size, **arguments)[0], size),)

    def registered(x: Tensor, sigma: float, **arguments: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        size = tuple(x.shape[-dims:])
        win = geometry.window(dims, **arguments, input_size=size)
        of = ops.weighted_pool._filter(win, ops.weighted_pool._by_distance(win, sigma), win.output_size(size))
        weights, factors = of._numbers(x, size)
        window = (list(of.kernel_size), list(of.stride), list(of.before), list(of.dilation))
        pooled, last = of.up(x), ops.linear_maps.lies_channels_last(x, dims)
        spread = (pooled, list(size), weights, factors, *window, of.border, last)
        return [
            (torch.ops.switchgrad.filter_pool.default, (x, weights, factors, *window, list(of.places), of.border)),
            (torch.ops.switchgrad.filter_pool_spread.default, spread),
        ]

    return Operator(
        name=f"weighted_avg_pool{dims}d",
        function=WEIGHTED[dims],
        cases=WEIGHTED_CASES[dims],
        reference=value,
        reference_gradient=gradient,
        exact=False,
        cancels=True,
        yardstick=4,  # its weights and their sum are rounded as well
        dtypes=FLOATS,
        samples=("plain", "ties", "negative"),
        large=(Case("large", (LARGE[dims],), {"kernel_size": 5, "stride": 2, "padding": 2, "sigma": 1.0}),),
        saved_bytes=lambda case: 0,
        registered=registered,
        layer=lambda case: WEIGHTED_LAYER[dims](**case.arguments),
        grows=False,
    )


WEIGHTED_CASES = {
    1: (Case("4/3, padded", ((1, 2, 40),), {"kernel_size": 4, "stride": 3, "padding": 2, "sigma": 0.8}),),
    2: (
        Case("3/2, padded", ((1, 2, 5, 6),), {"kernel_size": 3, "stride": 2, "padding": 1, "sigma": 1.0}, small=True),
        Case("3x2", ((2, 1, 4, 5),), {"kernel_size": (3, 2), "stride": (1, 2), "sigma": 0.5}, small=True),
        Case(
            "dilated, ceil",
            ((1, 2, 8, 9),),
            {"kernel_size": 3, "stride": 3, "dilation": (1, 3), "ceil_mode": True, "padding": (0, 1), "sigma": 2.0},
        ),
        Case("5/1, same", ((1, 2, 6, 5),), {"kernel_size": 5, "stride": 1, "padding": "same", "sigma": 1.5}),
        Case("wide 3/2", ((1, 1, 3, 75),), {"kernel_size": 3, "stride": 2, "padding": 1, "sigma": 1.0}),
        Case("35 channels", ((1, 35, 4, 3),), {"kernel_size": 3, "stride": 1, "padding": 1, "sigma": 1.0}),
    ),
}
