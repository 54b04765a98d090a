"""Mixed, gated and tree pooling, held to loops; wrong variants are seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import composed
from composed import Composed, over_windows
from switchgrad import geometry, nn, ops
from switchgrad.errors import GeometryError, ModelError
from windowed import laid, with_parameters


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def kernel(c: composed.Case) -> tuple[int, ...]:
    return geometry.window(len(c.shapes[0]) - 2, c.arguments["kernel_size"]).kernel_size


# ---- mixed, gated, tree ------------------------------------------------------------------------------------------


def places(c: composed.Case) -> tuple[int, ...]:
    size = c.shapes[0][2:]
    return geometry.window(len(size), **c.arguments, input_size=size).output_size(size)


def share_of(mixing: np.ndarray, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The proportion of each window, written out over (N, C, *places)."""
    if mixing.ndim == 1:
        mixing = mixing.reshape(-1, *[1] * (x.ndim - 2))
    return np.broadcast_to(mixing, (x.shape[0], x.shape[1], *shape))


def mean(cells: list[tuple[int, float]]) -> float:
    return sum(v for _, v in cells) / len(cells)


def top(cells: list[tuple[int, float]]) -> float:
    return max(v for _, v in cells)


def mixed_loops(x: np.ndarray, mixing: np.ndarray, **arguments: Any) -> np.ndarray:
    best, average = (over_windows(x, x.ndim - 2, rule, **arguments) for rule in (top, mean))
    share = share_of(mixing, x, best.shape[2:])
    return np.array([a * b + (1 - a) * c for a, b, c in zip(share.flat, best.flat, average.flat, strict=True)]).reshape(
        best.shape
    )


def mixed_pool(dims: int, sharing: str) -> Composed:
    def shapes(c: composed.Case) -> list[tuple[int, ...]]:
        channels = c.shapes[0][1]
        return [
            {"layer": (), "channel": (channels,), "region": (1, *places(c)), "each": (channels, *places(c))}[sharing]
        ]

    return with_parameters(
        "mixed", dims, shapes, reference=mixed_loops, note=f", {sharing}", compiled=sharing == "channel" and dims == 2
    )


def dot(weights: np.ndarray, cells: list[tuple[int, float]]) -> float:
    return sum(weights[offset] * v for offset, v in cells)


def gated_loops(x: np.ndarray, gate: np.ndarray, **arguments: Any) -> np.ndarray:
    dims = x.ndim - 2
    flat = gate.reshape(*gate.shape[: gate.ndim - dims], -1)
    best = over_windows(x, dims, top, **arguments)
    shape = best.shape[2:]
    lead = flat.reshape(*([flat.shape[0], *[1] * dims] if flat.ndim == 2 else flat.shape[:-1]), flat.shape[-1])
    lead = np.broadcast_to(lead, (x.shape[1], *shape, flat.shape[-1])).reshape(x.shape[1], -1, flat.shape[-1])
    out = []
    for n, c in np.ndindex(*x.shape[:2]):
        window = iter(range(10**6))

        def rule(cells: list[tuple[int, float]], c: int = c, window: Any = window) -> float:
            open_ = sigmoid(dot(lead[c, next(window)], cells))
            return open_ * top(cells) + (1 - open_) * mean(cells)

        out.append(over_windows(x[n, c][None, None], dims, rule, **arguments))
    return np.array(out).reshape(best.shape)


def gated_pool(dims: int, sharing: str) -> Composed:
    def shapes(c: composed.Case) -> list[tuple[int, ...]]:
        channels = c.shapes[0][1]
        lead = {"layer": (), "channel": (channels,), "region": (1, *places(c))}[sharing]
        return [(*lead, *kernel(c))]

    return with_parameters("gated", dims, shapes, reference=gated_loops, note=f", {sharing}", precision=32)


def tree_loops(x: np.ndarray, leaves: np.ndarray, gates: np.ndarray, **arguments: Any) -> np.ndarray:
    dims = x.ndim - 2
    inner = len(gates)

    def value(node: int, c: int, cells: list[tuple[int, float]]) -> float:
        weights = leaves[node - inner] if node >= inner else gates[node]
        mine = (weights[c] if weights.ndim > dims else weights).reshape(-1)
        if node >= inner:
            return dot(mine, cells)
        open_ = sigmoid(dot(mine, cells))
        return open_ * value(2 * node + 1, c, cells) + (1 - open_) * value(2 * node + 2, c, cells)

    maps = [
        [
            over_windows(x[n, c][None, None], dims, lambda cells, c=c: value(0, c, cells), **arguments)[0, 0]
            for c in range(x.shape[1])
        ]
        for n in range(x.shape[0])
    ]
    return np.array(maps)


def tree_pool(dims: int, levels: int, channels: bool) -> Composed:
    def shapes(c: composed.Case) -> list[tuple[int, ...]]:
        each = (*([c.shapes[0][1]] if channels else []), *kernel(c))
        return [(2 ** (levels - 1), *each), (2 ** (levels - 1) - 1, *each)]

    return with_parameters(
        "tree", dims, shapes, reference=tree_loops, note=f", {levels} levels", precision=64, compiled=levels == 2
    )


MIXED = [mixed_pool(2, s) for s in ("layer", "channel", "region", "each")] + [
    mixed_pool(1, "channel"),
    mixed_pool(3, "layer"),
]
GATED = [gated_pool(2, s) for s in ("layer", "channel", "region")] + [gated_pool(1, "layer"), gated_pool(3, "channel")]
TREE = [tree_pool(2, 2, False), tree_pool(2, 3, True), tree_pool(1, 1, False), tree_pool(3, 2, True)]
test_mixed = composed.tests(*MIXED, *GATED, *TREE)
test_mixed_mutants = composed.mutant_tests(
    MIXED[1],
    {
        "max": lambda x, a, **w: ops.max_pool2d(x, **w),
        "exchanged": lambda x, a, **w: ops.mixed_pool2d(x, 1 - a, **w),
        "one proportion": lambda x, a, **w: ops.mixed_pool2d(x, a.mean(), **w),
        "clamped": lambda x, a, **w: ops.mixed_pool2d(x, a.clamp(0, 1), **w),
        "padding is counted": lambda x, a, **w: (
            a.reshape(-1, 1, 1) * ops.max_pool2d(x, **w) + (1 - a.reshape(-1, 1, 1)) * laid(x, **w).mean(-1)
        ),
    },
)
test_gated_mutants = composed.mutant_tests(
    GATED[0],
    {
        "gate exchanged": lambda x, g, **w: ops.gated_pool2d(x, -g, **w),
        "gate transposed": lambda x, g, **w: ops.gated_pool2d(x, g.flip(-1), **w),
        "no sigmoid": lambda x, g, **w: ops.mixed_pool2d(x, 0.5, **w),
    },
)
test_tree_mutants = composed.mutant_tests(
    TREE[1],
    {
        "children exchanged": lambda x, v, w, **a: ops.tree_pool2d(x, v, -w, **a),
        "leaves out of order": lambda x, v, w, **a: ops.tree_pool2d(x, v.flip(0), w, **a),
        "gates out of order": lambda x, v, w, **a: ops.tree_pool2d(x, v, w.roll(1, 0), **a),
        "one channel's tree": lambda x, v, w, **a: ops.tree_pool2d(x, v[:, 0], w[:, 0], **a),
    },
)


def test_parameters_of_the_paper() -> None:
    """1, 9 and 27 more parameters for windows of 3 x 3: mixed, gated, tree of two levels."""
    layers = nn.MixedPool2d(3), nn.GatedPool2d(3), nn.TreePool2d(3, levels=2)
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [1, 9, 27]


@pytest.mark.parametrize(
    "layer",
    [
        nn.MixedPool2d(2),
        nn.MixedPool2d(2, channels=3),
        nn.MixedPool2d(2, places=(4, 4)),
        nn.GatedPool2d(3, 2, 1, channels=3, places=(4, 4)),
        nn.TreePool2d(2, levels=3, channels=3),
        nn.LIPPool2d(2, logits=torch.nn.Conv2d(3, 3, 1)),
        nn.GeneralPool2d(torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(-2)), 2),
        nn.ExpectationPool(learned=True),
    ],
    ids=repr,
)
def test_layers_learn(layer: torch.nn.Module) -> None:
    x = torch.rand(2, 3, 8, 8)
    layer(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
    assert len(list(layer.parameters())) > 0
    again = type(layer).__new__(type(layer))
    again.__dict__.update(layer.__dict__)
    assert torch.equal(again(x), layer(x))
    assert torch.equal(layer(x[0][None])[0], layer(x)[0])


X = torch.rand(1, 2, 6, 6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.mixed_pool2d(X, torch.rand(3), 2), "does not broadcast"),
        (lambda: ops.mixed_pool2d(X, torch.rand(2, 2), 2), "does not broadcast"),
        (lambda: ops.gated_pool2d(X, torch.rand(3, 3), 2), "last axes must be those of the window"),
        (lambda: ops.gated_pool2d(X, torch.rand(3, 2, 2), 2), "does not broadcast"),
        (lambda: ops.tree_pool2d(X, torch.rand(3, 2, 2), torch.rand(2, 2, 2), 2), "1, 2, 4, 8"),
        (lambda: ops.tree_pool2d(X, torch.rand(2, 2, 2), torch.rand(2, 2, 2), 2), "one gate fewer"),
        (lambda: nn.TreePool2d(2, levels=0), "levels is 0"),
        (lambda: nn.MixedPool2d(2, places=(3,)), "2 sizes of the pooled map"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises((GeometryError, ModelError), match=sentence):
        call()
