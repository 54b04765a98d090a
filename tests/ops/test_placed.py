"""Fractional max pooling and S3Pool: windows at random places, held to PyTorch's and to loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import composed
from composed import Composed, case
from switchgrad import nn, ops
from switchgrad.errors import GeometryError
from switchgrad.ops import placed

OURS = {2: ops.fractional_max_pool2d, 3: ops.fractional_max_pool3d}
PEER = {2: F.fractional_max_pool2d, 3: F.fractional_max_pool3d}
S3 = {1: ops.s3_pool1d, 2: ops.s3_pool2d, 3: ops.s3_pool3d}
FRACTIONAL_CASES = [
    ((2, 3, 11, 9), 2, (5, 4)),
    ((2, 1, 20, 20), 2, 14),
    ((3, 9, 9), (3, 2), (7, 1)),
    ((1, 2, 17, 17), 3, (15, 15)),
    ((1, 2, 3, 4), (3, 4), 1),
    ((2, 2, 9, 7, 8), 2, (4, 5, 6)),
    ((2, 6, 6, 6), (1, 2, 3), (5, 1, 3)),
]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("shape", "kernel", "output"), FRACTIONAL_CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_fractional_is_pytorchs_bit_for_bit(shape: Any, kernel: Any, output: Any, dtype: torch.dtype) -> None:
    dims = 3 if len(shape) == 5 or (len(shape) == 4 and shape[0] == 2 and shape[1:] == (6, 6, 6)) else 2
    lead = shape[:-dims] if len(shape) == dims + 2 else (1, *shape[:-dims])
    ties = torch.randint(-2, 3, shape, generator=generator(1)).double()
    nan = torch.randn(shape, generator=generator(2), dtype=torch.float64)
    nan[..., 1::3] = float("nan")
    plain = torch.randn(shape, generator=generator(3), dtype=torch.float64) - 3
    for x in (plain, ties, nan, torch.full(shape, -torch.inf)):
        x = x.to(dtype)
        samples = torch.rand(*lead, dims, generator=generator(4), dtype=torch.float64).to(dtype)
        wanted, where = PEER[dims](x, kernel, output, return_indices=True, _random_samples=samples)
        got, indices = OURS[dims](x, kernel, output, return_indices=True, _random_samples=samples)
        assert torch.equal(got.nan_to_num(nan=7), wanted.nan_to_num(nan=7))
        assert torch.equal(indices, where)
        values, switches = OURS[dims](x, kernel, output, return_switches=True, _random_samples=samples)
        assert torch.equal(values.nan_to_num(nan=7), wanted.nan_to_num(nan=7))
        assert torch.equal(switches.to_indices(), where)
        values, ours = placed.max_at(x, switches.starts, switches.kernel_size)  # without PyTorch's kernel
        assert torch.equal(values.nan_to_num(nan=7), wanted.nan_to_num(nan=7))
        assert torch.equal(ours.codes, switches.codes)
        torch.manual_seed(5)
        drawn = PEER[dims](x, kernel, output)
        torch.manual_seed(5)
        assert torch.equal(OURS[dims](x, kernel, output).nan_to_num(nan=7), drawn.nan_to_num(nan=7))
        assert torch.equal(
            OURS[dims](x, kernel, output, generator=generator(5)).nan_to_num(nan=7), drawn.nan_to_num(nan=7)
        )


@pytest.mark.parametrize(("shape", "kernel", "output"), [FRACTIONAL_CASES[0], FRACTIONAL_CASES[3], FRACTIONAL_CASES[5]])
def test_fractional_gradients_are_pytorchs(shape: Any, kernel: Any, output: Any) -> None:
    dims = len(shape) - 2
    x = torch.randn(shape, generator=generator(1), dtype=torch.float64).requires_grad_()
    samples = torch.rand(*shape[:2], dims, generator=generator(2), dtype=torch.float64)
    wanted = PEER[dims](x, kernel, output, _random_samples=samples)
    got = OURS[dims](x, kernel, output, _random_samples=samples)
    g = torch.randn(got.shape, generator=generator(3), dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, g)[0] for y in (got, wanted)), rtol=1e-14, atol=1e-14)

    def run(x: Tensor) -> Tensor:
        return OURS[dims](x, kernel, output, _random_samples=samples)

    assert gradcheck(run, x, fast_mode=True)
    assert gradgradcheck(run, x, fast_mode=True)
    tangent = torch.randn(shape, generator=generator(4), dtype=torch.float64)
    forward = torch.func.jvp(run, (x.detach(),), (tangent,))[1]
    (backward,) = torch.autograd.grad(run(x), x, g)
    torch.testing.assert_close((forward * g).sum(), (backward * tangent).sum())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["pseudorandom", "random"])
@pytest.mark.parametrize(("length", "kernel", "output"), [(17, 3, 6), (40, 2, 29), (5, 5, 1), (9, 4, 6)])
def test_a_signal_is_a_picture_of_one_row(length: int, kernel: int, output: int, mode: Any, dtype: torch.dtype) -> None:
    x = torch.randint(-3, 4, (2, 3, length), generator=generator(1)).to(dtype)
    x[0, 0, ::4] = torch.nan
    shape = (2, 3, 2) if mode == "pseudorandom" else (2, 3, 2, max(output - 1, 0))
    samples = torch.rand(shape, generator=generator(2)).to(dtype)
    given = {"mode": mode, "return_indices": True}
    picture, signal = x.unsqueeze(2).requires_grad_(), x.clone().requires_grad_()
    columns = samples[:, :, :1] if mode == "pseudorandom" else samples[:, :, :1].contiguous()
    wanted, where = ops.fractional_max_pool2d(picture, (1, kernel), (1, output), _random_samples=samples, **given)
    got, indices = ops.fractional_max_pool1d(signal, kernel, output, _random_samples=columns, **given)
    assert torch.equal(got.nan_to_num(nan=7), wanted.squeeze(2).nan_to_num(nan=7))
    assert torch.equal(indices, where.squeeze(2))
    grad = torch.randn(got.shape, generator=generator(3)).to(dtype)
    (left,) = torch.autograd.grad(got, signal, grad)
    (right,) = torch.autograd.grad(wanted, picture, grad.unsqueeze(2))
    assert torch.equal(left, right.squeeze(2))
    single = ops.fractional_max_pool1d(x[1], kernel, output, _random_samples=columns[1:], mode=mode)
    assert torch.equal(single, got[1])


def test_a_signal_s_layer_and_refusals() -> None:
    x = torch.rand(2, 3, 11)
    torch.manual_seed(3)
    wanted = ops.fractional_max_pool1d(x, 2, 5)
    torch.manual_seed(3)
    assert torch.equal(nn.FractionalMaxPool1d(2, 5)(x), wanted)
    assert nn.FractionalMaxPool1d(2, output_ratio=0.5)(x[0]).shape == (3, 5)
    values, switches = ops.fractional_max_pool1d(x, 2, 5, generator=generator(3), return_switches=True)
    assert torch.equal(values, wanted)
    assert switches.codes.dtype == torch.uint8
    with pytest.raises(GeometryError, match="axes"):
        ops.fractional_max_pool1d(torch.rand(1, 2, 3, 4), 2, 2)
    with pytest.raises(GeometryError, match="do not fit in the 11 cells"):
        ops.fractional_max_pool1d(x, 2, 11)


def test_fractional_windows_that_only_just_fit() -> None:
    """PyTorch refuses such volumes; with and without a gradient we pool them alike."""
    x = torch.rand(1, 2, 4, 5, 6)
    samples = torch.rand(1, 2, 3)
    y = ops.fractional_max_pool3d(x, 2, (3, 4, 5), _random_samples=samples)
    assert torch.equal(y, ops.max_pool3d(x, 2, 1))
    watched = ops.fractional_max_pool3d(x.requires_grad_(), 2, (3, 4, 5), _random_samples=samples)
    assert torch.equal(watched, y)


def test_fractional_half_gradients_add_up_in_float32() -> None:
    x = torch.zeros(1, 1, 40, dtype=torch.float16).reshape(1, 1, 1, 40).requires_grad_()
    with torch.no_grad():
        x[..., 2] = 1
    ops.fractional_max_pool2d(x, (1, 30), (1, 11), _random_samples=torch.zeros(1, 1, 2)).backward(
        torch.full((1, 1, 1, 11), 1 / 3, dtype=torch.float16)
    )
    assert x.grad[..., 2].item() == torch.tensor(3 * (1 / 3), dtype=torch.float16).item()


def test_random_sequences_have_long_and_short_steps() -> None:
    x = torch.arange(25.0).repeat(1, 400, 25, 1)
    y, switches = ops.fractional_max_pool2d(x, 2, 17, mode="random", generator=generator(1), return_switches=True)
    for starts in switches.starts:
        assert starts.shape == (1, 400, 17)
        assert (starts[..., 0] == 0).all()
        assert (starts[..., -1] == 23).all()
        steps = starts.diff(dim=-1)
        assert set(steps.unique().tolist()) == {1, 2}
        assert steps.float().mean(1).sub(23 / 16).abs().max() < 0.15  # long steps anywhere, not in a pattern
    assert y[0, 0, 0].tolist() == (switches.starts[1][0, 0] + 1).tolist()
    numbers = torch.rand(1, 400, 2, 16)
    again = [ops.fractional_max_pool2d(x, 2, 17, mode="random", _random_samples=numbers) for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(again[0], y)


def test_fractional_keeps_bytes() -> None:
    kept: list[tuple[torch.dtype, int]] = []

    def pack(t: Tensor) -> Tensor:
        kept.append((t.dtype, t.numel()))
        return t

    x = torch.rand(2, 3, 9, 9, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        _, switches = ops.fractional_max_pool2d(x, 2, 5, return_switches=True)
    assert kept == [(torch.uint8, 150), (torch.int64, 60)]
    assert switches.nbytes == 150 + 8 * 60


def test_placed_switches_unpool() -> None:
    x = torch.randn(2, 3, 9, 8, generator=generator(1))
    for y, switches in (
        ops.fractional_max_pool2d(x, 2, 5, generator=generator(2), return_switches=True),
        ops.s3_pool2d(x, 3, 2, 4, generator=generator(2), return_switches=True),
    ):
        back = switches.unpool(y)
        assert torch.equal(back, torch.where(switches.mask(), x, 0))
        assert torch.equal(back, torch._C._nn.max_unpool2d(y, switches.to_indices(), (9, 8)))
        with pytest.raises(GeometryError, match="one value for each switch"):
            switches.unpool(y[:1])


# ---- S3Pool ------------------------------------------------------------------------------------------------------

S3_CASES = {
    1: (case((2, 2, 9), kernel_size=2), case((1, 2, 8), kernel_size=3, stride=2, grid_size=4)),
    2: (
        case((2, 2, 5, 6), kernel_size=2),
        case((1, 2, 8, 9), kernel_size=(2, 3), stride=2, grid_size=4),
        case((1, 1, 6, 7), kernel_size=3, stride=(1, 3), grid_size=(2, 3)),
    ),
    3: (case((1, 2, 4, 4, 5), kernel_size=2),),
}


def _three(kernel_size: Any, stride: Any = None, grid_size: Any = None, *, dims: int) -> list[tuple[int, ...]]:
    each = [kernel_size, kernel_size if stride is None else stride, kernel_size if grid_size is None else grid_size]
    return [(value,) * dims if isinstance(value, int) else value for value in each]


def max_at_every_cell(x: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    dims = len(kernel)
    out = np.empty_like(x)
    for at in np.ndindex(x.shape):
        box = tuple(slice(a, a + k) for a, k in zip(at[-dims:], kernel, strict=True))
        out[at] = x[at[:-dims]][box].max()
    return out


def blocks(size: int, stride: int, grid: int) -> list[list[int]]:
    """Rows of each strip."""
    strips = [list(range(first, first + grid)) for first in range(0, size - grid + 1, grid)]
    strips[-1] += range(strips[-1][-1] + 1, size)
    return strips


def s3_evaluated(x: np.ndarray, **arguments: Any) -> np.ndarray:
    dims = x.ndim - 2
    kernel, stride, grid = _three(**arguments, dims=dims)
    y = max_at_every_cell(x, kernel)
    for axis in range(dims):
        parts = []
        for strip in blocks(x.shape[2 + axis], stride[axis], grid[axis]):
            count = grid[axis] // stride[axis]
            cuts = [i * len(strip) // count for i in range(count + 1)]
            parts += [y.take(strip[a:b], 2 + axis).mean(2 + axis) for a, b in itertools.pairwise(cuts)]
        y = np.stack(parts, 2 + axis)
    return y


def s3_drawn(x: np.ndarray, samples: np.ndarray, **arguments: Any) -> np.ndarray:
    dims = x.ndim - 2
    kernel, stride, grid = _three(**arguments, dims=dims)
    y = max_at_every_cell(x, kernel)
    for axis in range(dims):
        size = x.shape[2 + axis]
        numbers, samples = samples[:size], samples[size:]
        picked = []
        for strip in blocks(size, stride[axis], grid[axis]):
            wanted = sorted(strip, key=lambda row: numbers[row])[: grid[axis] // stride[axis]]
            picked += sorted(wanted)
        y = y.take(picked, 2 + axis)
    return y


def evaluated(dims: int) -> Composed:
    return Composed(
        f"s3_pool{dims}d, evaluation",
        lambda x, **a: S3[dims](x, **a, training=False),
        s3_evaluated,
        S3_CASES[dims],
        compiled=dims == 2,
        layer=lambda c: {1: nn.S3Pool1d, 2: nn.S3Pool2d, 3: nn.S3Pool3d}[dims](**c.arguments),
    )


def trained(dims: int) -> Composed:
    def numbers(c: composed.Case, g: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = c.shapes[0]
        return torch.randn(shape, generator=g, dtype=torch.float64), torch.rand(
            sum(shape[2:]), generator=g, dtype=torch.float64
        )

    def run(x: Tensor, samples: Tensor, **arguments: Any) -> Tensor:
        return S3[dims](x, **arguments, samples=samples.detach())

    return Composed(
        f"s3_pool{dims}d, training",
        run,
        s3_drawn,
        S3_CASES[dims],
        draw=numbers,
        mapped=False,
        differentiable=False,
        compiled=dims == 2,
        dtypes=(torch.float64, torch.float32),
    )


test_s3 = composed.tests(*(kind(d) for d in (1, 2, 3) for kind in (evaluated, trained)))
test_s3_mutants = composed.mutant_tests(
    trained(2),
    {
        "the largest numbers": lambda x, u, **a: ops.s3_pool2d(x, **a, samples=1 - u),
        "first rows": lambda x, u, **a: ops.s3_pool2d(x, **a, samples=torch.zeros_like(u)),
        "columns before rows": lambda x, u, **a: ops.s3_pool2d(x, **a, samples=u.roll(x.shape[-1])),
        "average": lambda x, u, **a: ops.s3_pool2d(x, **a, training=False),
    },
)


def test_s3_gradients_follow_the_switches() -> None:
    x = torch.randn(2, 2, 6, 6, generator=generator(1), dtype=torch.float64).requires_grad_()
    u = torch.rand(12, generator=generator(2), dtype=torch.float64)

    def run(x: Tensor) -> Tensor:
        return ops.s3_pool2d(x, 3, 2, samples=u, grid_size=2)

    assert gradcheck(run, x)
    assert gradgradcheck(run, x, fast_mode=True)
    g = torch.randn(run(x).shape, generator=generator(3), dtype=torch.float64)
    (backward,) = torch.autograd.grad(run(x), x, g)
    tangent = torch.randn(x.shape, generator=generator(4), dtype=torch.float64)
    forward = torch.func.jvp(run, (x.detach(),), (tangent,))[1]
    torch.testing.assert_close((forward * g).sum(), (backward * tangent).sum())
    assert torch.equal(torch.func.vmap(run)(torch.stack([x, -x])), torch.stack([run(x), run(-x)]))


def test_compiled_equals_eager() -> None:
    x = torch.rand(2, 2, 9, 8, requires_grad=True)
    calls = (
        (ops.fractional_max_pool2d, torch.rand(2, 2, 2), "_random_samples", {"kernel_size": 2, "output_size": 5}),
        (ops.s3_pool2d, torch.rand(17), "samples", {"kernel_size": 2}),
    )
    for function, u, name, arguments in calls:

        def run(x: Tensor, u: Tensor, f: Any = function, name: str = name, arguments: Any = arguments) -> Tensor:
            return f(x, **arguments, **{name: u})

        torch.compiler.reset()
        compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
        eager, other = run(x, u), compiled(x, u)
        assert torch.equal(eager, other)
        assert torch.equal(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (eager, other)))


@pytest.mark.slow
def test_inductor_equals_eager() -> None:
    x, u = torch.rand(2, 2, 9, 8), torch.rand(2, 2, 2)
    torch.compiler.reset()
    compiled = torch.compile(lambda x, u: ops.fractional_max_pool2d(x, 2, 5, _random_samples=u), fullgraph=True)
    assert torch.equal(compiled(x, u), F.fractional_max_pool2d(x, 2, 5, _random_samples=u))


def test_fractional_layer_is_pytorchs() -> None:
    samples = torch.rand(2, 3, 2)
    for ours, theirs in (
        (nn.FractionalMaxPool2d(2, output_ratio=0.7), torch.nn.FractionalMaxPool2d(2, output_ratio=0.7)),
        (
            nn.FractionalMaxPool2d(2, 5, None, True, samples),
            torch.nn.FractionalMaxPool2d(2, 5, None, True, samples),
        ),
    ):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        x = torch.rand(2, 3, 12, 12)
        torch.manual_seed(1)
        got = ours(x)
        torch.manual_seed(1)
        torch.testing.assert_close(got, theirs(x), rtol=0, atol=0)
    assert nn.FractionalMaxPool3d(2, 3)(torch.rand(1, 6, 6, 6)).shape == (1, 3, 3, 3)
    assert repr(nn.FractionalMaxPool2d(2, 3)) == "FractionalMaxPool2d(kernel_size=2, output_size=3, mode=pseudorandom)"


X = torch.rand(1, 2, 6, 6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.fractional_max_pool2d(X, 2), "either output_size or output_ratio"),
        (lambda: ops.fractional_max_pool2d(X, 2, 3, 0.5), "either output_size or output_ratio"),
        (lambda: nn.FractionalMaxPool2d(2), "either output_size or output_ratio"),
        (lambda: ops.fractional_max_pool2d(X, 2, 6), "between 1 and 5"),
        (lambda: ops.fractional_max_pool2d(X, 2, (0, 1)), "output_size is"),
        (lambda: ops.fractional_max_pool2d(X, [], 1), "kernel_size is"),
        (lambda: ops.fractional_max_pool2d(X, 0, 1), "kernel_size is 0"),
        (lambda: ops.fractional_max_pool2d(X, 7, 1), "do not fit in the 6 cells"),
        (lambda: ops.fractional_max_pool2d(X, 2, output_ratio=1.5), "between 0 and 1"),
        (lambda: ops.fractional_max_pool2d(X, 2, output_ratio=(0.5,)), "or 2 of them"),
        (lambda: ops.fractional_max_pool2d(X, 2, output_ratio=0.1), "do not fit"),
        (lambda: ops.fractional_max_pool2d(X, 2, 3, _random_samples=torch.tensor(-1)), r"numbers of \(1, 2, 2\)"),
        (lambda: ops.fractional_max_pool2d(X, 2, 3, mode="regular"), "pseudorandom"),
        (lambda: ops.fractional_max_pool2d(X, 2, 3, return_indices=True, return_switches=True), "both set"),
        (lambda: ops.fractional_max_pool3d(X[0, 0], 2, 3), "axes"),
        (lambda: ops.s3_pool2d(X, 2, grid_size=3), "multiple of the stride"),
        (lambda: ops.s3_pool2d(X, 2, grid_size=8), "at most the 6 cells"),
        (lambda: ops.s3_pool2d(X, 2, training=False, return_switches=True), "no cell wins"),
        (lambda: ops.s3_pool2d(X, 2, samples=torch.rand(2)), r"numbers of \(12,\)"),
        (lambda: ops.s3_pool2d(X, 0), "kernel_size is 0"),
    ],
)
def test_refusals(call: Any, sentence: str) -> None:
    with pytest.raises(GeometryError, match=sentence):
        call()
