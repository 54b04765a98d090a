"""Stochastic pooling and max-pooling dropout: their draws, their expectations, what they keep and what they refuse."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import composed
from composed import Composed, case, over_windows
from switchgrad import nn, ops
from switchgrad.errors import GeometryError

STOCHASTIC = {1: ops.stochastic_pool1d, 2: ops.stochastic_pool2d, 3: ops.stochastic_pool3d}
DROPOUT = {1: ops.max_pool_dropout1d, 2: ops.max_pool_dropout2d, 3: ops.max_pool_dropout3d}
LAYER = {
    "stochastic": {1: nn.StochasticPool1d, 2: nn.StochasticPool2d, 3: nn.StochasticPool3d},
    "dropout": {1: nn.MaxPoolDropout1d, 2: nn.MaxPoolDropout2d, 3: nn.MaxPoolDropout3d},
}
GEOMETRIES = {
    1: (case((2, 2, 7), kernel_size=3, stride=2, padding=1), case((1, 3, 6), kernel_size=2)),
    2: (
        case((2, 2, 5, 6), kernel_size=(3, 2), stride=2, padding=(1, 0)),
        case((1, 2, 4, 4), kernel_size=2),
        case((1, 2, 7, 5), kernel_size=2, stride=2, ceil_mode=True, dilation=(2, 1)),
        case((1, 1, 5, 5), kernel_size=3, stride=1, padding=((0, 2), (1, 0))),
    ),
    3: (case((1, 2, 3, 4, 5), kernel_size=2), case((1, 1, 3, 3, 3), kernel_size=3, stride=1, padding=1)),
}


def expected_draw(cells: list[tuple[int, float]]) -> float:
    """The mean of the multinomial draw."""
    values = [value for _, value in cells]
    weights = [max(value, 0.0) for value in values]
    if sum(weights) == 0:
        weights = [1.0] * len(values)
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def expected_dropout(p: float) -> Any:
    """The mean of the largest product over all masks, one mask after the other."""

    def rule(cells: list[tuple[int, float]]) -> float:
        total = 0.0
        for mask in np.ndindex(*[2] * len(cells)):
            chance = np.prod([p if dropped else 1 - p for dropped in mask])
            total += chance * max(0.0 if dropped else value for dropped, (_, value) in zip(mask, cells, strict=True))
        return total

    return rule


def evaluated(dims: int, name: str) -> Composed:
    functions = STOCHASTIC if name == "stochastic" else DROPOUT
    rule = expected_draw if name == "stochastic" else expected_dropout(0.3)
    options = {} if name == "stochastic" else {"p": 0.3}
    return Composed(
        f"{name}{dims}d, evaluation",
        lambda x, **a: functions[dims](x, **a, **options, training=False),
        lambda x, **a: over_windows(x, dims, rule, **a),
        GEOMETRIES[dims][:1] if dims == 3 else GEOMETRIES[dims],
        compiled=dims == 2,
        layer=lambda c: LAYER[name][dims](**c.arguments, **options),
    )


def test_every_cell_below_zero() -> None:
    x = torch.tensor([[-3.0, -1.0, -2.0, -2.0]])
    assert ops.stochastic_pool1d(x, 2, training=False).tolist() == [[-2.0, -2.0]]
    assert ops.max_pool_dropout1d(x, 2, p=0.5, training=False).tolist() == [[-0.25, -0.5]]


test_evaluation = composed.tests(*(evaluated(d, n) for d in (1, 2, 3) for n in ("stochastic", "dropout")))
test_stochastic_mutants = composed.mutant_tests(
    evaluated(2, "stochastic"),
    {
        "max": lambda x, **a: ops.max_pool2d(x, **a),
        "softmax weights": lambda x, **a: (
            (w := _laid(x, **a, fill=-torch.inf)).softmax(-1).mul(w.nan_to_num(neginf=0)).sum(-1)
        ),
        "weights of absolute values": lambda x, **a: (w := _laid(x, **a)).square().sum(-1) / w.abs().sum(-1),
    },
)
test_dropout_mutants = composed.mutant_tests(
    evaluated(2, "dropout"),
    {
        "scaled max": lambda x, **a: ops.max_pool2d(x, **a) * 0.7,
        "p and 1 - p exchanged": lambda x, **a: ops.max_pool_dropout2d(x, **a, p=0.7, training=False),
        "negative ones count": lambda x, **a: _all_ranked(_laid(x, **a, fill=-torch.inf)),
    },
)


def _laid(x: Tensor, fill: float = 0.0, **arguments: Any) -> Tensor:
    from switchgrad import geometry

    return ops.windows(x, geometry.window(2, **arguments), fill)


def _all_ranked(laid: Tensor) -> Tensor:
    ordered = laid.sort(-1, descending=True).values.nan_to_num(neginf=0)
    return (ordered * 0.7 * 0.3 ** torch.arange(laid.shape[-1])).sum(-1)


# ---- training: the draw ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_stochastic_draw_is_the_running_sum(dims: int, dtype: torch.dtype) -> None:
    for c in GEOMETRIES[dims]:
        (x,) = (t.to(dtype) for t in composed.draw(Composed("draw", None, None, ()), c))  # type: ignore[arg-type]
        shape = STOCHASTIC[dims](x, **c.arguments).shape
        # Sixteenths: no threshold lies so near a running sum that rounding decides.
        u = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        numbers = iter(u.flatten().tolist())

        def rule(cells: list[tuple[int, float]], numbers: Any = numbers) -> float:
            weights = [max(v, 0.0) for _, v in cells]
            weights = weights if sum(weights) else [1.0] * len(cells)
            threshold, running = next(numbers) * sum(weights), 0.0
            for (_, value), weight in zip(cells, weights, strict=True):
                running += weight
                if running > threshold:
                    return value
            return max(v for _, v in cells)

        wanted = over_windows(x.double().numpy(), dims, rule, **c.arguments)
        got, switches = STOCHASTIC[dims](x, **c.arguments, samples=u, return_switches=True)
        assert torch.equal(got.double(), torch.from_numpy(wanted))
        index = switches.to_indices()
        assert torch.equal(x.flatten(-dims).gather(-1, index.flatten(-dims)).reshape(got.shape), got)
        assert switches.codes.dtype == torch.uint8


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_dropout_draw_is_the_largest_product(dims: int) -> None:
    for c in GEOMETRIES[dims]:
        (x,) = composed.draw(Composed("draw", None, None, ()), c)  # type: ignore[arg-type]
        u = torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        left = torch.where(u < 0.4, 0, x)
        wanted = over_windows(left.numpy(), dims, lambda cells: max(v for _, v in cells), **c.arguments)
        x.requires_grad_()
        got, switches = DROPOUT[dims](x, **c.arguments, p=0.4, samples=u, return_switches=True)
        assert torch.equal(got, torch.from_numpy(wanted))
        assert torch.equal((switches.to_indices() < 0), got == 0)
        got.sum().backward()
        assert torch.equal(x.grad != 0, switches.mask())
        assert not bool((switches.mask() & (u < 0.4)).any())


def test_frequencies_are_the_probabilities() -> None:
    x = torch.tensor([1.0, 2.0, 0.0, 5.0]).repeat(4000, 1)[:, None]
    drawn = ops.stochastic_pool1d(x, 4, generator=torch.Generator().manual_seed(3)).flatten()
    seen = [float((drawn == v).float().mean()) for v in (1.0, 2.0, 0.0, 5.0)]
    assert seen == pytest.approx([0.125, 0.25, 0, 0.625], abs=0.03)
    kept = ops.max_pool_dropout1d(x, 4, p=0.5, generator=torch.Generator().manual_seed(4)).mean()
    assert float(kept) == pytest.approx(5 / 2 + 2 / 4 + 1 / 8, abs=0.1)


@pytest.mark.parametrize("function", [ops.stochastic_pool2d, ops.max_pool_dropout2d, ops.s3_pool2d])
def test_generators_repeat(function: Any) -> None:
    x = torch.rand(2, 3, 8, 8)
    first, second = (function(x, 2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    other = function(x, 2, generator=torch.Generator().manual_seed(6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    torch.manual_seed(7)
    by_default = function(x, 2)
    torch.manual_seed(7)
    assert torch.equal(function(x, 2), by_default)
    nhwc = function(x.to(memory_format=torch.channels_last), 2, generator=torch.Generator().manual_seed(5))
    assert torch.equal(nhwc, first)
    assert nhwc.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("function", "bytes_kept"), [(ops.stochastic_pool2d, 24), (ops.max_pool_dropout2d, 24)])
def test_one_byte_is_kept(function: Any, bytes_kept: int) -> None:
    kept: list[int] = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t.numel() * t.element_size())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        function(torch.rand(2, 3, 4, 4, requires_grad=True), 2)
    assert sum(kept) == bytes_kept


@pytest.mark.parametrize("function", [ops.stochastic_pool2d, ops.max_pool_dropout2d])
def test_gradients_of_a_draw(function: Any) -> None:
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 3

    def run(x: Tensor) -> Tensor:
        return function(x, 3, 2, generator=torch.Generator().manual_seed(1))

    places = run(x).shape
    u = torch.rand(places if function is ops.stochastic_pool2d else x.shape, dtype=torch.float64)
    winners = function(x, 3, 2, samples=u, return_switches=True)[1]
    g = torch.randn(places, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (got,) = torch.autograd.grad(function(leaf, 3, 2, samples=u), leaf, g)
    wanted = torch.zeros(2, 2, 25, dtype=torch.float64)
    for n, ch in np.ndindex(2, 2):
        for at, value in zip(winners.to_indices()[n, ch].flatten().tolist(), g[n, ch].flatten().tolist(), strict=True):
            if at >= 0:
                wanted[n, ch, at] += value
    torch.testing.assert_close(got.flatten(-2), wanted)


def test_what_no_draw_decides() -> None:
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[1.0, nan, 2.0, inf, 0.0, 0.0, -1.0, -2.0]])
    for u in (0.0, 0.5, 0.99):
        y = ops.stochastic_pool1d(x, 2, samples=torch.full((1, 4), u))
        assert y[0, :3].tolist() == pytest.approx([nan, inf, 0.0], nan_ok=True)
        assert y[0, 3] == (-1.0 if u < 0.5 else -2.0)
    y = ops.stochastic_pool1d(x, 2, training=False)[0].tolist()
    assert y == pytest.approx([nan, inf, 0.0, -1.5], nan_ok=True)
    assert ops.max_pool_dropout1d(x, 2, p=0.0, training=False)[0].tolist() == pytest.approx(
        [nan, inf, 0, -1], nan_ok=True
    )
    large = torch.full((1, 4), 3e38)
    assert ops.stochastic_pool1d(large, 4, training=False).item() == large[0, 0]
    counts = torch.stack(
        [
            ops.stochastic_pool1d(large, 4, samples=torch.tensor([[u]]), return_switches=True)[1].codes
            for u in (0.1, 0.3, 0.6, 0.8)
        ]
    )
    assert counts.flatten().tolist() == [0, 1, 2, 3]


def test_zero_windows_have_a_gradient() -> None:
    x = torch.zeros(1, 1, 4, dtype=torch.float64, requires_grad=True)
    ops.stochastic_pool1d(x, 2, training=False).sum().backward()
    assert x.grad.tolist() == [[[0.5] * 4]]
    x = torch.rand(1, 2, 6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: ops.stochastic_pool1d(x, 3, training=False), x)


def test_dropout_at_the_ends() -> None:
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(ops.max_pool_dropout2d(x, 2, p=0.0), ops.max_pool2d(x, 2))
    assert torch.equal(ops.max_pool_dropout2d(x, 2, p=0.0, training=False), ops.max_pool2d(x, 2))
    assert not ops.max_pool_dropout2d(x, 2, p=1.0).any()
    assert not ops.max_pool_dropout2d(x, 2, p=1.0, training=False).any()


@pytest.mark.parametrize("name", ["stochastic", "dropout"])
def test_layers_draw_from_their_generator(name: str) -> None:
    layer = LAYER[name][2](2, generator=torch.Generator().manual_seed(1))
    x = torch.rand(2, 3, 8, 8)
    again, stored = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    y = layer(x)
    assert torch.equal(again(x), y)
    assert torch.equal(stored(x), y)
    assert not torch.equal(layer(x), y)
    assert layer.eval()(x).shape == y.shape
    assert torch.equal(layer(x), layer(x))


def test_compiled_equals_eager() -> None:
    x = torch.rand(2, 2, 6, 6, requires_grad=True)
    for function, shape in ((ops.stochastic_pool2d, (2, 2, 3, 3)), (ops.max_pool_dropout2d, x.shape)):
        u = torch.rand(shape)
        torch.compiler.reset()
        compiled = torch.compile(lambda x, u, f=function: f(x, 2, samples=u), backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x, u), function(x, 2, samples=u))
        wanted, got = (
            torch.autograd.grad(f(x, u).square().sum(), x)
            for f in (lambda x, u, f=function: f(x, 2, samples=u), compiled)
        )
        assert torch.equal(*wanted, *got)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.stochastic_pool2d(torch.rand(3, 4), 2), "takes an input of 3 or 4 axes"),
        (lambda: ops.stochastic_pool1d(torch.ones(1, 4, dtype=torch.int32), 2), "dtype torch.int32"),
        (lambda: ops.stochastic_pool1d(torch.rand(0, 4), 2), "at least 1 cell"),
        (lambda: ops.stochastic_pool1d(torch.rand(1, 4), 5), "spans 5 cells"),
        (lambda: ops.stochastic_pool1d(torch.rand(1, 4), 2, samples=torch.rand(1, 3)), r"numbers of \(1, 2\)"),
        (lambda: ops.stochastic_pool1d(torch.rand(1, 4), 2, training=False, return_switches=True), "no cell wins"),
        (
            lambda: ops.stochastic_pool1d(torch.rand(1, 4), 2, samples=torch.rand(1, 2), generator=torch.Generator()),
            "both given",
        ),
        (lambda: ops.max_pool_dropout1d(torch.rand(1, 4), 2, p=1.5), "p is 1.5"),
        (lambda: ops.max_pool_dropout1d(torch.rand(1, 4), 2, training=False, return_switches=True), "no cell wins"),
        (lambda: nn.MaxPoolDropout2d(2, p=-0.1), "p is -0.1"),
        (lambda: nn.StochasticPool2d(0), "kernel_size"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        call()
