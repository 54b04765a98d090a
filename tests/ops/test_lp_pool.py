"""Lp pooling against loops, its derivatives at 0, and what PyTorch gets wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import conform
import loops
from conform import FLOATS, Case, Mutant, Operator
from harness.compare import require_same
from switchgrad import geometry, kernels, nn, ops
from switchgrad.errors import GeometryError
from switchgrad.kernels import schema
from switchgrad.layout import memory_format_of

POOL = {1: ops.lp_pool1d, 2: ops.lp_pool2d, 3: ops.lp_pool3d}
LAYER = {1: nn.LPPool1d, 2: nn.LPPool2d, 3: nn.LPPool3d}


def _case(name: str, shape: tuple[int, ...], p: float, small: bool = False, **arguments: Any) -> Case:
    return Case(name, (shape,), {"norm_type": p, **arguments}, small=small)


CASES = {
    1: (_case("L2", (2, 2, 9), 2, True, kernel_size=3, stride=2), _case("L1", (2, 2, 7), 1, kernel_size=2)),
    2: (
        _case("L2", (1, 2, 5, 4), 2, True, kernel_size=2),
        _case("L3", (1, 2, 5, 4), 3, True, kernel_size=2, stride=1),
        _case("L1", (2, 2, 4, 6), 1, kernel_size=(2, 3)),
        _case("L2.5", (1, 2, 7, 6), 2.5, kernel_size=3, stride=2, padding=1),
        _case("L0.5", (1, 2, 6, 6), 0.5, kernel_size=2, ceil_mode=True),
        _case("dilated", (1, 2, 9, 8), 2, kernel_size=2, stride=1, dilation=3),
        _case("70 channels", (1, 70, 3, 4), 2, kernel_size=2),
    ),
    3: (_case("L2", (1, 1, 2, 4, 4), 2, True, kernel_size=2),),
}


def _windows(x: np.ndarray, dims: int, **arguments: Any) -> tuple[list[tuple[float, list[int]]], tuple[int, ...]]:
    size = x.shape[-dims:]
    return loops.average_windows(size, **arguments), loops.pooled_shape(loops.axes(size, **arguments))


def declaration(dims: int) -> Operator:
    """Lp pooling over ``dims`` axes."""

    def norms(x: np.ndarray, norm_type: float, **arguments: Any) -> tuple[np.ndarray]:
        where, places = _windows(x, dims, **arguments)
        planes = np.abs(x.astype(np.float64)).reshape(-1, math.prod(x.shape[-dims:]))
        sums = [sum(plane[i] ** norm_type for i in cells) ** (1 / norm_type) for plane in planes for _, cells in where]
        return (np.array(sums).reshape(*x.shape[:-dims], *places),)

    return Operator(
        name=f"lp_pool{dims}d",
        function=POOL[dims],
        cases=CASES[dims],
        reference=norms,
        exact=False,
        cancels=True,
        dtypes=FLOATS,
        gradient_dtypes=(torch.float64, torch.float32),
        samples=("plain", "ties", "negative"),
        layer=lambda case: LAYER[dims](**case.arguments),
    )


TWO = declaration(2)
# The compiler and the tape's second turn take steps, which round differently; so do doubles of an odd power, which
# keep strides of any kind as elementwise steps do.
ROUNDED = ("jacobians_agree", "gradients_follow_the_layout", "compiles_without_breaks", "exports_with_open_shapes")
LOOPS = [name for name in conform.CHECKS if name not in ROUNDED]


def test_gradients_of_the_kernel_follow_the_layout() -> None:
    floats = replace(TWO, gradient_dtypes=(torch.float32,))
    conform.check(floats, ["gradients_follow_the_layout"])


# Maps beyond what is done at once are cut: along the rows, along the depth of a volume, channels last as well.
LARGE = {
    "rows": ((1, 2, 231, 230), (3, 3), (2, 2), (1, 1), (1, 1)),
    "rows that overlap and hop": ((1, 1, 250, 190), (3, 2), (1, 2), (2, 0), (2, 1)),
    "channels last": ((1, 70, 30, 31), (3, 3), (1, 2), (1, 1), (1, 1)),
    "small maps together": ((3, 40, 28, 29), (2, 3), (2, 1), (0, 1), (1, 1)),
    "depth": ((1, 1, 11, 90, 80), (2, 3, 2), (3, 1, 2), (1, 1, 0), (1, 1, 2)),
    "depth, channels last": ((1, 5, 12, 20, 60), (2, 3, 2), (2, 1, 2), (0, 1, 0), (1, 1, 1)),
    "volumes together, channels last": ((3, 4, 5, 9, 11), (2, 2, 3), (2, 1, 2), (1, 0, 0), (1, 1, 1)),
    "one long row": ((1, 1, 50_000), (5,), (3,), (2,), (1,)),
}


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LARGE)
def test_pieces_of_large_maps(name: str, dtype: torch.dtype) -> None:
    shape, *window = LARGE[name]
    arguments = (3.0, geometry.window(len(shape) - 2, *window).numbers)
    x = torch.randn(shape).to(dtype)
    x[..., : shape[-1] // 3] = 0
    if "channels last" in name:
        x = x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)
    y = torch.ops.switchgrad.lp_pool(x, *arguments)
    g = torch.randn_like(y)
    slopes = torch.ops.switchgrad.lp_pool_spread(g, x, y, *arguments)
    loose = {torch.float64: 1e-13, torch.float32: 1e-5}.get(dtype, 1e-2)
    for got, meaning, given in ((y, "lp_pool", (x,)), (slopes, "lp_pool_spread", (g, x, y))):
        wanted = schema.REFERENCES[meaning](*(t.double() for t in given), *arguments)
        assert got.is_contiguous(memory_format=memory_format_of(x))
        torch.testing.assert_close(got.double(), wanted, rtol=loose, atol=loose)


@pytest.mark.skipif(not kernels.isas(), reason="the native library is not here")
def test_the_registered_operators_refuse_what_does_not_fit() -> None:
    x, window = torch.randn(1, 2, 4, 4), geometry.window(2, 2).numbers
    y = torch.ops.switchgrad.lp_pool(x, 2.0, window)
    with pytest.raises(RuntimeError, match=r"norm_type is 0\.0+; the kernels of Lp pooling take"):
        torch.ops.switchgrad.lp_pool(x, 0.0, window)
    with pytest.raises(RuntimeError, match="takes float64, float32, float16 or bfloat16"):
        torch.ops.switchgrad.lp_pool(x.int(), 2.0, window)
    for wrong in ((x, x, y), (y, x, x), (y.double(), x, y), (y, x, y.half())):
        with pytest.raises(RuntimeError, match="use what the pooling of this input gave"):
            torch.ops.switchgrad.lp_pool_spread(*wrong, 2.0, window)


def _signed(x: torch.Tensor, norm_type: float, kernel_size: Any, **arguments: Any) -> torch.Tensor:
    return ops.sum_pool2d(x.pow(norm_type), kernel_size, **arguments).pow(1 / norm_type)


def _scaled(x: torch.Tensor, norm_type: float, kernel_size: Any, **arguments: Any) -> torch.Tensor:
    return ops.lp_pool2d(x, norm_type, kernel_size, **arguments) / 2


def _no_root(x: torch.Tensor, norm_type: float, kernel_size: Any, **arguments: Any) -> torch.Tensor:
    return ops.lp_pool2d(x, norm_type, kernel_size, **arguments).pow(norm_type)


MUTANTS = (
    Mutant("x^p instead of |x|^p", _signed, "values_equal_the_loops"),
    Mutant("mean instead of sum", _scaled, "values_equal_the_loops"),
    Mutant("no root", _no_root, "values_equal_the_loops"),
)
test_mutant = conform.mutant_tests(replace(TWO, mutants=MUTANTS))


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_lp_pool(dims: int, name: str) -> None:
    conform.check(declaration(dims), [name])


@pytest.mark.slow
@pytest.mark.parametrize("p", [2.0, 1.5])
def test_lp_pool_compiles_in_one_graph(p: float) -> None:
    compiled = torch.compile(lambda x: ops.lp_pool2d(x, p, 2), fullgraph=True)
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    got, wanted = compiled(x), ops.lp_pool2d(x, p, 2)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x)[0] for y in (got, wanted)))


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 4])
def test_the_gradient_at_zero_is_zero(p: float) -> None:
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[..., 2:] = torch.tensor([0.0, -3.0])
    x.requires_grad_()
    (slope,) = torch.autograd.grad(ops.lp_pool2d(x, p, 2).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), x)
    assert (slope[x == 0] == 0).all()
    assert curvature.isfinite().all()
    assert (slope[x != 0] < 0).all()


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_as_torch_where_torch_is_right(p: float) -> None:
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64) + 0.1
    torch.testing.assert_close(ops.lp_pool2d(x, p, 3, 2), F.lp_pool2d(x, p, 3, 2))


@pytest.mark.parametrize("p", [0.5, 1.0, 1.7, 2.0, 3.0])
def test_the_gradient_is_the_formula(p: float) -> None:
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    y, z = (ops.lp_pool2d(t, p, 2) for t in (x, last))
    g = torch.randn_like(y)
    wider = [t.detach().repeat_interleave(2, 2).repeat_interleave(2, 3) for t in (g, y)]
    wanted = wider[0] * x.detach().sign() * (x.detach().abs() / wider[1]) ** (p - 1)
    for got in (*torch.autograd.grad(y, x, g), *torch.autograd.grad(z, last, g)):
        torch.testing.assert_close(got, wanted)
    assert z.is_contiguous(memory_format=torch.channels_last)


def test_infinity_is_the_largest_absolute_value() -> None:
    x = torch.tensor([[1.0, -5.0, 5.0, 2.0]], requires_grad=True)
    y = ops.lp_pool1d(x, math.inf, 4)
    y.sum().backward()
    require_same(y.detach(), torch.tensor([[5.0]]), "L inf")
    require_same(x.grad, torch.tensor([[0.0, -1.0, 0.0, 0.0]]), "its gradient")


def test_nan_and_half_precision() -> None:
    assert ops.lp_pool1d(torch.tensor([[1.0, math.nan]]), 1.5, 2).isnan().all()
    assert ops.lp_pool1d(torch.full((1, 4), 300.0, dtype=torch.float16), 2, 4).item() == 600.0


@pytest.mark.parametrize("p", [0, -1, math.nan])
def test_other_powers_are_refused(p: float) -> None:
    with pytest.raises(GeometryError, match="give a number above 0"):
        ops.lp_pool2d(torch.ones(1, 4, 4), p, 2)
    with pytest.raises(GeometryError, match="give a number above 0"):
        nn.LPPool1d(p, 2)
