"""Learned and mixed pooling, held to loops; wrong variants are seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import composed
from composed import Composed, case, over_windows
from switchgrad import geometry, nn, ops
from switchgrad.errors import GeometryError, ModelError

OPS = {
    name: {d: getattr(ops, f"{name}_pool{d}d") for d in (1, 2, 3)}
    for name in ("soft", "lip", "mixed", "gated", "tree", "general")
}
CASES = {
    1: (case((2, 2, 7), kernel_size=3, stride=2, padding=1), case((1, 3, 6), kernel_size=2)),
    2: (
        case((2, 2, 5, 6), kernel_size=(3, 2), stride=2, padding=(1, 0)),
        case((1, 2, 4, 4), kernel_size=2),
        case((1, 2, 7, 5), kernel_size=2, stride=2, ceil_mode=True, dilation=(2, 1)),
        case((1, 1, 5, 5), kernel_size=3, stride=1, padding=((0, 2), (1, 0))),
        case((1, 2, 1, 5), kernel_size=(1, 2), padding="same", stride=2),
    ),
    3: (case((1, 2, 3, 4, 4), kernel_size=2, padding=(1, 0, 0)),),
}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def soft(cells: list[tuple[int, float]]) -> float:
    top = max(v for _, v in cells)
    weights = [math.exp(v - top) for _, v in cells]
    return sum(w * v for w, (_, v) in zip(weights, cells, strict=True)) / sum(weights)


def kernel(c: composed.Case) -> tuple[int, ...]:
    return geometry.window(len(c.shapes[0]) - 2, c.arguments["kernel_size"]).kernel_size


def with_parameters(name: str, dims: int, shapes: Any, **flags: Any) -> Composed:
    """An operator whose further tensors have the shapes that ``shapes`` says for a case, at half the size."""

    def draw(c: composed.Case, g: torch.Generator) -> tuple[Tensor, ...]:
        return tuple(torch.randn(s, generator=g, dtype=torch.float64) for s in (c.shapes[0], *shapes(c)))

    def run(*given: Tensor, **arguments: Any) -> Tensor:
        return OPS[name][dims](*given, **arguments)

    return Composed(
        f"{name}_pool{dims}d{flags.pop('note', '')}", run, flags.pop("reference"), CASES[dims], draw=draw, **flags
    )


# ---- SoftPool and LIP --------------------------------------------------------------------------------------------


def soft_pool(dims: int) -> Composed:
    layer = {1: nn.SoftPool1d, 2: nn.SoftPool2d, 3: nn.SoftPool3d}[dims]
    return Composed(
        f"soft_pool{dims}d",
        OPS["soft"][dims],
        lambda x, **a: over_windows(x, dims, soft, **a),
        CASES[dims],
        compiled=dims == 2,
        layer=lambda c: layer(**c.arguments),
    )


def lip_loops(x: np.ndarray, logits: np.ndarray, **arguments: Any) -> np.ndarray:
    dims = x.ndim - 2
    # Each window of the weighted map over each window of the weights.
    weights = np.exp(np.broadcast_to(logits, x.shape))
    above, below = (
        over_windows(y, dims, lambda cells: sum(v for _, v in cells), **arguments) for y in (weights * x, weights)
    )
    return above / below


def lip_pool(dims: int, shared: bool) -> Composed:
    def shapes(c: composed.Case) -> list[tuple[int, ...]]:
        n, ch, *size = c.shapes[0]
        return [(n, 1 if shared else ch, *size)]

    return with_parameters(
        "lip", dims, shapes, reference=lip_loops, batched_tensors=2, note=", shared" if shared else "", precision=64
    )


test_attention = composed.tests(*(soft_pool(d) for d in (1, 2, 3)), *(lip_pool(d, d == 2) for d in (1, 2, 3)))


def _laid(x: Tensor, fill: float = 0.0, **arguments: Any) -> Tensor:
    size = tuple(x.shape[2:])
    return ops.windows(x, geometry.window(2, **arguments, input_size=size), fill)


test_soft_mutants = composed.mutant_tests(
    soft_pool(2),
    {
        "max": ops.max_pool2d,
        "padding counts": lambda x, **a: (y := _laid(x, **a)).mul(y.softmax(-1)).sum(-1),
        "log-sum-exp": lambda x, **a: _laid(x, -torch.inf, **a).logsumexp(-1),
        "weights of all maps": lambda x, **a: ops.lip_pool2d(x, x.sum(1, keepdim=True), **a),
        "half as soft": lambda x, **a: ops.lip_pool2d(x, x / 2, **a),
    },
)
test_lip_mutants = composed.mutant_tests(
    lip_pool(2, True),
    {
        "softmax over the whole map": lambda x, w, **a: _laid(x * w.flatten(1).softmax(1).reshape(w.shape), **a).sum(
            -1
        ),
        "sign of the logits": lambda x, w, **a: ops.lip_pool2d(x, -w, **a),
        "average": lambda x, w, **a: ops.lip_pool2d(x, torch.zeros_like(x), **a),
    },
)


def test_soft_pool_at_extremes() -> None:
    inf = torch.inf
    x = torch.tensor([[-inf, 2.0, 3e38, 3e38, -inf, -inf, 1.0, torch.nan]], requires_grad=True)
    y = ops.soft_pool1d(x, 2)
    assert y[0, :2].tolist() == [2.0, pytest.approx(3e38, rel=1e-6)]
    assert y[0, 2:].isnan().all()
    y[0, :2].sum().backward()
    assert x.grad[0, :2].tolist() == [0.0, 1.0]
    assert not ops.soft_pool1d(torch.tensor([[60000.0, -60000.0]], dtype=torch.float16), 2).isnan()


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
            a.reshape(-1, 1, 1) * ops.max_pool2d(x, **w) + (1 - a.reshape(-1, 1, 1)) * _laid(x, **w).mean(-1)
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


# ---- general -----------------------------------------------------------------------------------------------------


def test_general_is_every_other_kind() -> None:
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    arguments = {"kernel_size": 3, "stride": 2, "padding": 1}
    assert torch.equal(
        ops.general_pool2d(x, lambda c: c.amax(-1), **arguments, fill=-torch.inf), ops.max_pool2d(x, **arguments)
    )
    torch.testing.assert_close(
        ops.general_pool2d(x, lambda c: c.mean(-1), **arguments), torch.nn.functional.avg_pool2d(x, 3, 2, 1)
    )
    norm = ops.general_pool1d(x[0], lambda c: c.pow(3).sum(-1), 2)[0]
    torch.testing.assert_close(norm, x[0, 0].reshape(7, 4, 2).pow(3).sum(-1))


def general(dims: int) -> Composed:
    def product(cells: Tensor) -> Tensor:
        return cells.prod(-1)

    return Composed(
        f"general_pool{dims}d",
        lambda x, **a: OPS["general"][dims](x, product, **a, fill=1.0),
        lambda x, **a: over_windows(x, dims, lambda cells: math.prod(v for _, v in cells), **a),
        CASES[dims],
        dtypes=(torch.float64, torch.float32),
        twice=False,
        precision=256,
    )


test_general = composed.tests(*(general(d) for d in (1, 2, 3)))


# ---- sequences ---------------------------------------------------------------------------------------------------


def auto_loops(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape[:2])
    for n, c in np.ndindex(*x.shape[:2]):
        a = alpha[c] if alpha.ndim else float(alpha)
        weights = [math.exp(a * v) for v in x[n, c]]
        out[n, c] = sum(w * v for w, v in zip(weights, x[n, c], strict=True)) / sum(weights)
    return out


def above_loops(x: np.ndarray, m: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape[:2])
    for n, c in np.ndindex(*x.shape[:2]):
        values = x[n, c].reshape(-1)
        away = [float(m) * (v - values.mean()) for v in values]
        weights = [(np.sign(d) * math.exp(d) + math.exp(d)) / 2 for d in away]
        out[n, c] = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    return out


SEQUENCES = [
    Composed(
        "auto_pool",
        ops.auto_pool,
        auto_loops,
        (case((2, 3, 5), (3,)), case((1, 2, 4), ())),
        keeps_layout=False,
        compiled=True,
        precision=64,
    ),
    Composed(
        "expectation_pool",
        ops.expectation_pool,
        lambda x, m: auto_loops(x.reshape(*x.shape[:2], -1), m),
        (case((2, 3, 5), (3,)), case((2, 2, 3, 4), ()), case((1, 2, 2, 3, 2), (2,))),
        batch=False,
        keeps_layout=False,
        precision=64,
    ),
    Composed(
        "expectation_pool, above the mean",
        lambda x, m: ops.expectation_pool(x, m, above_mean=True),
        above_loops,
        (case((2, 3, 7), ()), case((2, 2, 3, 4), ())),
        batch=False,
        keeps_layout=False,
        precision=64,
        dtypes=(torch.float64, torch.float32),
    ),
]
test_sequences = composed.tests(*SEQUENCES)
test_auto_mutants = composed.mutant_tests(
    SEQUENCES[0],
    {
        "softness of the weights forgotten": lambda x, a: ops.auto_pool(x, 1.0),
        "mean": lambda x, a: x.mean(-1),
        "normalised over channels": lambda x, a: (x * (a.reshape(-1, 1) * x).softmax(1)).sum(-1),
    },
)
test_expectation_mutants = composed.mutant_tests(
    SEQUENCES[2], {"all values": lambda x, m: ops.expectation_pool(x, m), "max": lambda x, m: x.flatten(2).amax(-1)}
)


def test_masked_steps_take_no_part() -> None:
    x = torch.rand(3, 2, 6, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True, True, False, True, False, False], [False] * 6])
    alpha = torch.tensor([0.5, 3.0], dtype=torch.float64)
    wanted = [ops.auto_pool(one[:, keep], alpha) for one, keep in zip(x[:2], mask[:2], strict=True)]
    spoilt = torch.where(mask[:, None], x, torch.nan).requires_grad_()
    got = ops.auto_pool(spoilt, alpha, mask)
    torch.testing.assert_close(got[:2], torch.stack(wanted))
    assert got[2].tolist() == [0.0, 0.0]
    got.sum().backward()
    assert torch.equal(spoilt.grad != 0, mask[:, None].expand(3, 2, 6))
    assert torch.equal(ops.auto_pool(x, alpha, mask[1]), ops.auto_pool(x, alpha, mask[1].expand(3, 6)))


# ---- auto-pooling of features ------------------------------------------------------------------------------------


def cluster_loops(x: np.ndarray, logits: np.ndarray) -> np.ndarray:
    shares = np.array([[math.exp(v) for v in row] for row in logits])
    out = np.zeros((*x.shape[:-1], len(logits)))
    for at in np.ndindex(*out.shape):
        out[at] = sum(shares[at[-1], f] / shares[:, f].sum() * v for f, v in enumerate(x[at[:-1]]))
    return out


CLUSTERS = Composed(
    "cluster_pool",
    ops.cluster_pool,
    cluster_loops,
    (case((2, 4, 5), (3, 5)), case((1, 2, 4), (1, 4))),
    keeps_layout=False,
    precision=64,
)
test_clusters = composed.tests(CLUSTERS)
test_cluster_mutants = composed.mutant_tests(
    CLUSTERS,
    {
        "softmax over features": lambda x, v: x @ v.softmax(1).T,
        "clusters of the sign": lambda x, v: ops.cluster_pool(x, -v),
    },
)


def test_auto_pooling_finds_what_takes_turns() -> None:
    """Two pairs of features flicker; each pair ends in a cluster of its own."""
    generator = torch.Generator().manual_seed(1)
    level = torch.rand(64, 1, 2, generator=generator).expand(64, 10, 2)
    which = (torch.rand(64, 10, 2, generator=generator) < 0.5).float()
    frames = torch.stack([level * which, level * (1 - which)], -1).flatten(-2)
    torch.manual_seed(2)
    pool = nn.ClusterPool(4, 2)
    optimiser = torch.optim.Adam(pool.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss = pool.loss(frames)
        loss.backward()
        optimiser.step()
    member = pool.logits.argmax(0)
    assert member[0] == member[1] != member[2] == member[3]
    assert repr(pool) == "ClusterPool(features=4, clusters=2)"


# ---- layers and refusals -----------------------------------------------------------------------------------------


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


def test_auto_pool_layer() -> None:
    layer = nn.AutoPool(3)
    assert layer(torch.rand(2, 3, 5), torch.ones(2, 5, dtype=torch.bool)).shape == (2, 3)
    assert "m" in nn.ExpectationPool(2.0).state_dict()


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
        (lambda: ops.lip_pool2d(X, torch.rand(1, 2, 6, 5), 2), "must broadcast"),
        (lambda: ops.soft_pool2d(X.int(), 2), "dtype torch.int32"),
        (lambda: ops.soft_pool2d(X, 7), "spans 7 cells"),
        (lambda: ops.general_pool2d(X, lambda c: c, 2), "one number a window"),
        (lambda: ops.auto_pool(X[0], torch.rand(5)), r"\(6,\)"),
        (lambda: ops.auto_pool(X[0], 1.0, torch.ones(4, dtype=torch.bool)), "mask has shape"),
        (lambda: ops.auto_pool(X[0, 0, 0], 1.0), "at least one step"),
        (lambda: ops.expectation_pool(X[0, 0]), "expectation_pool takes"),
        (lambda: ops.expectation_pool(X, torch.rand(3)), r"\(2,\)"),
        (lambda: ops.cluster_pool(X, torch.rand(2, 5)), "the logits"),
        (lambda: ops.auto_pooling_loss(X[0, 0, :1], torch.rand(2, 6)), "two frames"),
        (lambda: nn.TreePool2d(2, levels=0), "levels is 0"),
        (lambda: nn.MixedPool2d(2, places=(3,)), "2 sizes of the pooled map"),
        (lambda: nn.ClusterPool(0, 2), "at least 1"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises((GeometryError, ModelError), match=sentence):
        call()
