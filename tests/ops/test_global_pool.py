"""Global pooling in any number of axes: values, derivatives, ties, refusals; its layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from switchgrad import nn, ops
from switchgrad.errors import GeometryError

SHAPES = ((2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4), (2, 3, 1, 1))
POOLS: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]]] = {
    "average": (ops.global_avg_pool, lambda plane: plane.sum() / plane.numel()),
    "sum": (ops.global_sum_pool, lambda plane: plane.sum()),
    "max": (ops.global_max_pool, lambda plane: plane.max()),
    "L1": (lambda x, **k: ops.global_lp_pool(x, 1, **k), lambda plane: plane.abs().sum()),
    "L2": (lambda x, **k: ops.global_lp_pool(x, 2, **k), lambda plane: plane.norm()),
    "L inf": (lambda x, **k: ops.global_lp_pool(x, math.inf, **k), lambda plane: plane.abs().max()),
    "GeM": (ops.gem_pool, lambda plane: plane.clamp_min(1e-6).pow(3).mean() ** (1 / 3)),
}


def mean_and_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What the mean and the linear layer behind it mean, number by number."""
    rows = [
        [
            sum((w * plane.sum() / plane.numel() for w, plane in zip(row, sample, strict=True)), x.new_zeros(()))
            for row in weight
        ]
        for sample in x
    ]
    product = torch.stack([torch.stack(row) for row in rows])
    return product if bias is None else product + bias


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_mean_and_linear_in_one(shape: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(len(shape))
    x, weight = torch.randn(shape, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64) if biased else None
    given = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    torch.testing.assert_close(ops.global_avg_pool_linear(x, weight, bias), mean_and_product(x, weight, bias))
    assert gradcheck(ops.global_avg_pool_linear, given, check_forward_ad=True)
    assert gradgradcheck(ops.global_avg_pool_linear, given)
    last = x.detach().contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x
    torch.testing.assert_close(ops.global_avg_pool_linear(last, weight, bias), mean_and_product(x, weight, bias))
    assert ops.global_avg_pool_linear(x[:0], weight, bias).shape == (0, 4)
    spoiled = x.detach().clone()
    spoiled[0, 1] = math.nan
    got = ops.global_avg_pool_linear(spoiled, weight, bias)
    assert got[0].isnan().all()
    assert got[1].isfinite().all()


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_derivatives(name: str, shape: tuple[int, ...]) -> None:
    pool, meaning = POOLS[name]
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))
    wanted = torch.stack([meaning(plane) for sample in x for plane in sample]).reshape(shape[:2])
    torch.testing.assert_close(pool(x), wanted)
    kept = pool(x, keepdim=True)
    assert kept.shape == (*shape[:2], *[1] * (len(shape) - 2))
    torch.testing.assert_close(kept.flatten(1), wanted)
    x.requires_grad_()
    assert gradcheck(pool, x, check_forward_ad=True)
    assert gradgradcheck(pool, x)
    if len(shape) == 4:
        last = x.detach().contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(pool(last), wanted)
    half = pool(x.detach().bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), wanted, rtol=0.02, atol=0.05)


def test_the_first_maximum_takes_the_gradient() -> None:
    x = torch.tensor([[[[1.0, 6.0], [6.0, 6.0]]]], requires_grad=True)
    values, indices = ops.global_max_pool(x, return_indices=True)
    values.sum().backward()
    assert indices.tolist() == [[1]]
    assert x.grad.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]
    assert ops.global_max_pool(torch.tensor([[[1.0, math.nan, 2.0]]])).isnan().all()


def test_gem_lies_between_mean_and_maximum_and_trains() -> None:
    x = torch.rand(4, 3, 5, 5) * 100
    low, high = x.mean((2, 3)), x.amax((2, 3))
    pooled = [ops.gem_pool(x, p) for p in (1.0, 3.0, 10.0, 300.0)]
    assert all((a <= b + 1e-3).all() for a, b in zip((low, *pooled), (*pooled, high), strict=True))
    layer = nn.GeM(channels=3)
    layer(x).sum().backward()
    assert layer.p.grad.shape == (3,)
    assert (layer.p.grad > 0).all()
    doubles = x.double()[:1, :, :2, :2].requires_grad_()
    assert gradcheck(ops.gem_pool, (doubles, torch.full((3,), 2.5, dtype=torch.float64, requires_grad=True)))


def test_layers() -> None:
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(nn.GlobalAvgPool()(x), ops.global_avg_pool(x))
    torch.testing.assert_close(nn.GlobalMaxPool(return_indices=True)(x)[0], ops.global_max_pool(x))
    torch.testing.assert_close(nn.GlobalLPPool(3)(x), ops.global_lp_pool(x, 3))
    torch.testing.assert_close(nn.GeM()(x), ops.gem_pool(x, 3.0))
    assert nn.GlobalSumPool(keepdim=True)(x).shape == (2, 3, 1, 1)


def test_compiled() -> None:
    x = torch.randn(2, 3, 4, 5)
    function = lambda x: ops.gem_pool(x, 2.0) + ops.global_lp_pool(x, 2) + ops.global_avg_pool(x)  # noqa: E731
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="eager")(x), function(x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ops.global_avg_pool(torch.ones(2, 3)), "3 axes or more"),
        (lambda: ops.global_avg_pool_linear(torch.ones(2, 3), torch.ones(4, 3)), "3 axes or more"),
        (lambda: ops.global_avg_pool_linear(torch.ones(2, 3, 4), torch.ones(4, 2)), "as many columns"),
        (lambda: ops.global_avg_pool_linear(torch.ones(2, 3, 4), torch.ones(4, 3), torch.ones(3)), "4 rows"),
        (lambda: ops.global_max_pool(torch.ones(2, 3, 0)), "3 axes or more, none but the batch empty"),
        (lambda: ops.global_sum_pool(torch.ones(2, 3, 4, dtype=torch.int64)), "floating-point"),
        (lambda: ops.global_lp_pool(torch.ones(2, 3, 4), 0), "above 0"),
        (lambda: ops.gem_pool(torch.ones(2, 3, 4), 0), "p is 0"),
        (lambda: ops.gem_pool(torch.ones(2, 3, 4), eps=0), "eps is 0"),
    ],
)
def test_refused_in_words(call: Callable[[], Tensor], words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        call()


@pytest.mark.parametrize(("p", "wanted"), [(1.0, math.inf), (3.0, math.inf), (-1.0, 4 / (1 + 1 / 2 + 1 / 3))])
def test_generalised_means_of_an_infinite_cell(p: float, wanted: float) -> None:
    assert ops.gem_pool(torch.tensor([[[1.0, 2.0, math.inf, 3.0]]]), p).item() == pytest.approx(wanted)
