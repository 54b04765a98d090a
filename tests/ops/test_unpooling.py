"""Unpooling: averages spread, nearest and linear interpolation, and by the switches of every kind."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import composed
from composed import Composed, case
from switchgrad import nn, ops
from switchgrad.errors import GeometryError

AVG = {1: ops.avg_unpool1d, 2: ops.avg_unpool2d, 3: ops.avg_unpool3d}
NEAREST = {1: ops.nearest_unpool1d, 2: ops.nearest_unpool2d, 3: ops.nearest_unpool3d}
LINEAR = {1: ops.linear_unpool1d, 2: ops.bilinear_unpool2d, 3: ops.trilinear_unpool3d}


def each(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims


def avg_loops(
    y: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> np.ndarray:
    dims = y.ndim - 2
    kernel, pad = each(kernel_size, dims), each(padding, dims)
    step = kernel if stride is None else each(stride, dims)
    places = y.shape[2:]
    size = output_size or [(p - 1) * s + r - 2 * b for p, s, r, b in zip(places, step, kernel, pad, strict=True)]
    total, count = np.zeros((*y.shape[:2], *size)), np.zeros(size)
    for place in np.ndindex(*places):
        for cell in np.ndindex(*kernel):
            at = tuple(p * s - b + c for p, s, b, c in zip(place, step, pad, cell, strict=True))
            if all(0 <= a < h for a, h in zip(at, size, strict=True)):
                total[(slice(None), slice(None), *at)] += y[(slice(None), slice(None), *place)]
                count[at] += 1
    return total / np.maximum(count, 1)


AVERAGES = [
    Composed(f"avg_unpool{d}d", AVG[d], avg_loops, cases, compiled=d == 2, layer=layer)
    for d, cases, layer in (
        (
            1,
            (case((2, 2, 4), kernel_size=3, stride=2), case((1, 2, 3), kernel_size=2, stride=4, output_size=(11,))),
            None,
        ),
        (
            2,
            (
                case((2, 2, 3, 4), kernel_size=(2, 3), stride=2, padding=(0, 1)),
                case((1, 2, 3, 3), kernel_size=2),
                case((1, 1, 2, 3), kernel_size=2, output_size=(5, 6)),
                case((1, 1, 3, 3), kernel_size=1, stride=3),
            ),
            None,
        ),
        (3, (case((1, 2, 2, 3, 2), kernel_size=2), case((1, 1, 3, 2, 2), kernel_size=3, stride=1, padding=1)), None),
    )
]


def sources(size: int, places: int, kind: str) -> list[list[tuple[int, float]]]:
    """For each cell of an axis: the pooled places that it is made of, and their weights."""
    out = []
    for h in range(size):
        if kind == "nearest":
            out.append([(min(math.floor((h + 0.5) * places / size), places - 1), 1.0)])
            continue
        if kind == "corners":
            at = h * (places - 1) / (size - 1) if size > 1 else 0.0
        else:
            at = max((h + 0.5) * places / size - 0.5, 0.0)
        low = min(math.floor(at), places - 1)
        out.append([(low, 1 - (at - low)), (min(low + 1, places - 1), at - low)])
    return out


def resize_loops(kind: str) -> Any:
    def loops(y: np.ndarray, scale: Any = None, output_size: Any = None) -> np.ndarray:
        dims = y.ndim - 2
        places = y.shape[2:]
        if scale is not None:
            size = [p * s for p, s in zip(places, each(scale, dims), strict=True)]
        else:
            size = each(output_size, dims)
        along = [sources(h, p, kind) for h, p in zip(size, places, strict=True)]
        out = np.zeros((*y.shape[:2], *size))
        for at in np.ndindex(*size):
            for combination in itertools.product(*(axis[a] for axis, a in zip(along, at, strict=True))):
                place = tuple(p for p, _ in combination)
                weight = math.prod(w for _, w in combination)
                out[(slice(None), slice(None), *at)] += weight * y[(slice(None), slice(None), *place)]
        return out

    return loops


SIZES = {
    1: (case((2, 2, 4), output_size=7), case((1, 2, 3), scale=3)),
    2: (
        case((2, 2, 3, 4), output_size=(5, 9)),
        case((1, 2, 2, 3), scale=(2, 3)),
        case((1, 1, 4, 3), output_size=(2, 3)),
    ),
    3: (case((1, 2, 2, 3, 2), scale=2),),
}
RESIZED = [
    Composed(
        name, function, resize_loops(kind), SIZES[d], precision=64, layer=layer, twice=d == 2, mapped=kind != "nearest"
    )
    for d in (1, 2, 3)
    for name, function, kind, layer in (
        (
            f"nearest_unpool{d}d",
            NEAREST[d],
            "nearest",
            lambda c, d=d: getattr(nn, f"NearestUnpool{d}d")(**c.arguments),
        ),
        (f"linear, {d}-D", LINEAR[d], "middles", None),
        (f"linear, {d}-D, corners", lambda x, d=d, **a: LINEAR[d](x, **a, align_corners=True), "corners", None),
    )
]
test_unpooling = composed.tests(*AVERAGES, *RESIZED)
test_avg_mutants = composed.mutant_tests(
    AVERAGES[1],
    {
        "sums": lambda y, **a: F.conv_transpose2d(
            y.flatten(0, 1)[:, None],
            y.new_ones((1, 1, *each(a["kernel_size"], 2))),
            stride=a.get("stride", a["kernel_size"]),
            padding=a.get("padding", 0),
        ).reshape(*y.shape[:2], *avg_loops(y.double().numpy(), **a).shape[2:]),
        "shares": lambda y, **a: ops.avg_unpool2d(y, **a) / math.prod(each(a["kernel_size"], 2)),
        "turned": lambda y, **a: ops.avg_unpool2d(y.flip(-1), **a),
    },
)
test_nearest_mutants = composed.mutant_tests(
    RESIZED[3],
    {
        "by corners": lambda y, scale=None, output_size=None: F.interpolate(y, output_size, scale, mode="nearest"),
        "linear": lambda y, **a: ops.bilinear_unpool2d(y, **a),
    },
)
test_linear_mutants = composed.mutant_tests(
    RESIZED[4],
    {
        "corners aligned": lambda y, **a: ops.bilinear_unpool2d(y, **a, align_corners=True),
        "nearest": lambda y, **a: ops.nearest_unpool2d(y, **a),
    },
)


def test_pooling_gives_the_averages_back() -> None:
    y = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(F.avg_pool2d(ops.avg_unpool2d(y, (2, 3)), (2, 3)), y)
    odd = ops.avg_unpool2d(y, 2, output_size=(9, 11))
    torch.testing.assert_close(F.avg_pool2d(odd, 2), y)
    assert not odd[..., -1].any()


def test_switches_of_every_kind_unpool() -> None:
    x = torch.rand(2, 3, 9, 8)
    made = [
        ops.max_pool2d(x, 2, return_switches=True),
        ops.max_pool2d(x, 3, 2, 1, return_switches=True),
        ops.stochastic_pool2d(x, 2, return_switches=True),
        ops.max_pool_dropout2d(x, 2, return_switches=True),
        ops.fractional_max_pool2d(x, 2, 6, return_switches=True),
        ops.s3_pool2d(x, 2, return_switches=True),
    ]
    layer = nn.MaxUnpool2d()
    for y, switches in made:
        back = ops.max_unpool2d(y, switches)
        assert back.shape == x.shape
        assert torch.equal(back, torch.where(switches.mask(), x, 0))
        assert torch.equal(layer(y, switches), back)
        leaf = y.detach().clone().requires_grad_()
        ops.max_unpool2d(leaf, switches).sum().backward()
        assert set(leaf.grad.unique().tolist()) <= {0.0, 1.0}
        with pytest.raises(GeometryError):
            ops.max_unpool1d(y[0], switches)
        with pytest.raises(GeometryError, match="leave it out"):
            ops.max_unpool2d(y, switches, output_size=(3, 3))


X = torch.rand(1, 2, 3, 3)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.avg_unpool2d(X, 2, output_size=(9, 6)), "less than the stride"),
        (lambda: ops.avg_unpool2d(X, 2, output_size=(6,)), "less than the stride"),
        (lambda: ops.avg_unpool2d(X[0, 0], 2), "axes"),
        (lambda: ops.nearest_unpool2d(X), "either scale or output_size"),
        (lambda: ops.nearest_unpool2d(X, 2, 6), "either scale or output_size"),
        (lambda: ops.bilinear_unpool2d(X, 0), "scale is 0"),
        (lambda: ops.bilinear_unpool2d(X, output_size=(3,)), "output_size is"),
        (lambda: nn.NearestUnpool2d(), "either scale or output_size"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        call()
