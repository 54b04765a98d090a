"""Batch normalisation with ReLU and max pooling declares itself to the harness, and its mutants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import loops
from conform import Case, Mutant, Operator
from harness.samples import seeded
from switchgrad import geometry, ops

MOMENTUM, EPS = 0.3, 1e-3


def _case(name: str, shape: tuple[int, ...], small: bool = False, training: bool = True, **arguments: Any) -> Case:
    return Case(name, (shape,), {"training": training, **arguments}, small=small)


CASES = (
    _case("plain", (2, 3, 4, 5), small=True),
    _case("evaluation", (2, 3, 4, 3), small=True, training=False),
    _case("vectors", (5, 3)),
    _case("signals", (2, 3, 19)),
    _case("volumes", (2, 2, 3, 4, 3)),
    _case("many channels", (2, 70, 3, 3)),
    _case("wide planes", (2, 2, 7, 43)),
)
POOLED = (
    _case("2x2/2", (2, 2, 4, 4), small=True, kernel_size=2),
    _case("evaluation", (2, 2, 4, 4), small=True, training=False, kernel_size=2),
    _case("3x3/2 padded", (2, 3, 7, 6), kernel_size=3, stride=2, padding=1),
    _case("3x3/1", (2, 4, 5, 6), kernel_size=3, stride=1, padding=1),
    _case("odd, ceil", (2, 3, 7, 9), kernel_size=2, ceil_mode=True),
    _case("hops", (2, 2, 8, 9), kernel_size=2, stride=3),
    _case("many channels", (2, 70, 4, 3), kernel_size=2),
    _case("wide", (1, 2, 4, 75), kernel_size=2),
)
# Bands of one volume, several volumes a piece, rows that no window holds at the end of a band.
LARGE = (_case("large planes", (2, 3, 150, 131)), _case("many small planes", (21, 40, 9, 7)))
LARGE_POOLED = (
    _case("large planes, overlapping", (2, 3, 150, 131), kernel_size=3, stride=2, padding=1),
    _case("large planes, hops", (1, 3, 151, 130), kernel_size=2, stride=5),
    _case("many small planes", (21, 40, 9, 7), kernel_size=2),
)


def _draw(case: Case, draw: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    """Input, weight (of both signs, and 0), bias; the running ones are made again for each call."""
    channels = case.shapes[0][1]
    x = draw(case.shapes[0])
    generator = seeded("parameters", case.name)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    weight, bias = (torch.randn(channels, generator=generator, dtype=dtype) for _ in range(2))
    if not case.small:  # finite differences could not tell which of equal numbers wins
        weight[1] = 0
    return x, weight, bias


def _running(weight: Tensor) -> tuple[Tensor, Tensor]:
    count = torch.arange(len(weight), dtype=weight.dtype)
    return torch.sin(count), 1 + torch.cos(count) ** 2


def _function(x: Tensor, weight: Tensor, bias: Tensor, *, training: bool, **window: Any) -> Tensor:
    mean, var = _running(weight)
    if window:
        return ops.batch_norm_relu_max_pool2d(x, mean, var, weight, bias, training, MOMENTUM, EPS, **window)
    return ops.batch_norm_relu(x, mean, var, weight, bias, training, MOMENTUM, EPS)


def _peer(x: Tensor, weight: Tensor, bias: Tensor, *, training: bool, **window: Any) -> Tensor:
    values = F.relu(F.batch_norm(x, *_running(weight), weight, bias, training, MOMENTUM, EPS))
    return F.max_pool2d(values, **window) if window else values


def _normalised(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, training: bool) -> tuple[np.ndarray, ...]:
    """What goes into the ReLU, its normal form, and 1 / sqrt(var + eps), channel by channel."""
    z, normal, spread = (np.zeros_like(x) for _ in range(3))
    for c in range(x.shape[1]):
        numbers = [float(number) for number in x[:, c].reshape(-1)]
        mean, var = math.sin(c), 1 + math.cos(c) ** 2
        if training:
            mean = math.fsum(numbers) / len(numbers)
            var = math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)
        spread[:, c] = 1 / math.sqrt(var + EPS)
        normal[:, c] = (x[:, c] - mean) * spread[:, c]
        z[:, c] = normal[:, c] * weight[c] + bias[c]
    return z, normal, spread


def _reference(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, training: bool, **window: Any
) -> tuple[np.ndarray, ...]:
    z, _, _ = _normalised(x, weight, bias, training)
    values = np.where(z > 0, z, 0)
    return (loops.max_pool(values, 2, **window)[0] if window else values,)


def _gradient(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, training: bool, **window: Any
) -> tuple[np.ndarray, ...]:
    """By the chain rule through mean and variance, in double."""
    x, weight, bias, grad = (array.astype(np.float64) for array in (x, weight, bias, grad))
    z, normal, spread = _normalised(x, weight, bias, training)
    values = np.where(z > 0, z, 0)
    if window:
        grad = loops.put_back(grad, loops.max_pool(values, 2, **window)[1], x.shape[2:], add=True)
    dz = np.where(z > 0, grad, 0)
    axes = (0, *range(2, x.ndim))
    of_normal = dz * weight.reshape(-1, *[1] * (x.ndim - 2))
    dx = of_normal * spread
    if training:
        means = [np.mean(of_normal * factor, axis=axes, keepdims=True) for factor in (1.0, normal)]
        dx = spread * (of_normal - means[0] - normal * means[1])
    return dx, (dz * normal).sum(axes), dz.sum(axes)


def _registered(x: Tensor, weight: Tensor, bias: Tensor, *, training: bool, **window: Any) -> list[Any]:
    called = torch.ops.switchgrad
    mean, var = _running(weight)
    norm = (x, weight, bias, mean, var, training, EPS)
    if not window:
        output, statistics = called.batch_norm_relu(*norm)
        kept = (weight, bias, statistics, training, EPS)
        return [
            (called.batch_norm_relu.default, norm),
            (called.batch_norm_relu_backward.default, (output, x, *kept)),
            (called.batch_norm_move.default, (mean, var, statistics, 0.1, 9)),
        ]
    args = geometry.window(2, **window, input_size=list(x.shape[-2:])).numbers
    values, codes, statistics = called.batch_norm_relu_max_pool(*norm, args)
    kept = (weight, bias, statistics, training, EPS)
    return [
        (called.batch_norm_relu_max_pool.default, (*norm, args)),
        (called.batch_norm_relu_max_pool_values.default, (*norm, args)),
        (called.batch_norm_relu_max_pool_backward.default, (values, x, codes, *kept, args)),
    ]


def _saved(case: Case) -> int:
    """The input, two numbers a channel in double, weight and bias; a byte a pooled cell."""
    shape = case.shapes[0]
    window = {name: value for name, value in case.arguments.items() if name != "training"}
    places = math.prod(loops.pooled_shape(loops.axes(shape[2:], **window))) if window else 0
    return 4 * math.prod(shape) + 16 * shape[1] + 8 * shape[1] + shape[0] * shape[1] * places


BATCH_NORM_RELU = Operator(
    name="batch_norm_relu",
    function=_function,
    cases=CASES,
    draw=_draw,
    reference=_reference,
    reference_gradient=_gradient,
    peer=_peer,
    # float64 is the yardstick itself: finite differences and the tests beside the harness hold it.
    dtypes=(torch.float32, torch.float16, torch.bfloat16),
    gradient_dtypes=(torch.float32, torch.float16, torch.bfloat16),
    differentiable=(0, 1, 2),
    samples=("plain", "whole"),
    exact=False,
    same_bits=False,
    unbatched=False,
    empty_batch=False,
    large=LARGE,
    saved_bytes=_saved,
    registered=_registered,
)
BATCH_NORM_RELU_MAX_POOL = replace(BATCH_NORM_RELU, name="batch_norm_relu_max_pool2d", cases=POOLED, large=LARGE_POOLED)


# ---- mutants: the same as a chain of PyTorch's operators, with one thing wrong ------------------------------------


def right(x: Tensor, weight: Tensor, bias: Tensor, *, training: bool, **window: Any) -> Tensor:
    """Done right: what the mutants below are variants of."""
    return _chain(x, weight, bias, training, window)


def _chain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    window: dict[str, Any],
    statistics: Callable[..., tuple[Tensor, Tensor]] | None = None,
    after: Callable[[Tensor], Tensor] = F.relu,
    pool: Callable[..., Tensor] = F.max_pool2d,
    eps: float = EPS,
) -> Tensor:
    axes, shape = [a for a in range(x.dim()) if a != 1], (-1, *[1] * (x.dim() - 2))
    wide = x.double()
    mean, var = (t.double() for t in _running(weight))
    if training:
        mean, var = statistics(wide, axes) if statistics else (wide.mean(axes), wide.var(axes, correction=0))
    z = (wide - mean.reshape(shape)) * (var.reshape(shape) + eps).rsqrt()
    values = after(z * weight.double().reshape(shape) + bias.double().reshape(shape)).to(x.dtype)
    return pool(values, **window) if window else values


class _Cut(torch.autograd.Function):
    """relu(z) whose backward forgets the ReLU: dead cells get a gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.relu()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def _mutant(**wrong: Any) -> Callable[..., Tensor]:
    def function(x: Tensor, weight: Tensor, bias: Tensor, *, training: bool, **window: Any) -> Tensor:
        return _chain(x, weight, bias, training, window, **wrong)

    return function


def _winner_forgotten(values: Tensor, **window: Any) -> Tensor:
    pooled = F.max_pool2d(values, **window)
    last = torch.zeros_like(pooled, dtype=torch.bool)
    last[..., -1, -1] = True
    return torch.where(last, pooled.detach(), pooled)


def _overlap_twice(values: Tensor, **window: Any) -> Tensor:
    pooled = F.max_pool2d(values, **window)
    return pooled + (pooled - pooled.detach()) * (window.get("stride", 2) == 1)


LOOPS, GRADIENT = "values_equal_the_loops", "gradients_equal_the_loops"
MUTANTS = (
    Mutant("unbiased variance for biased", _mutant(statistics=lambda x, a: (x.mean(a), x.var(a))), LOOPS),
    Mutant("eps forgotten", _mutant(eps=0.0), LOOPS),
    Mutant("no ReLU", _mutant(after=lambda z: z), LOOPS),
    Mutant(
        "statistics of one image",
        _mutant(statistics=lambda x, a: (x[:1].mean(a), x[:1].var(a, correction=0))),
        LOOPS,
    ),
    Mutant(
        "mean term dropped",
        _mutant(statistics=lambda x, a: (x.mean(a).detach(), x.var(a, correction=0))),
        GRADIENT,
    ),
    Mutant(
        "variance term dropped",
        _mutant(statistics=lambda x, a: (x.mean(a), x.var(a, correction=0).detach())),
        GRADIENT,
    ),
    Mutant("dead winner given gradient", _mutant(after=_Cut.apply), GRADIENT),
    Mutant("winner forgotten", _mutant(pool=_winner_forgotten), GRADIENT),
    Mutant("overlap counted twice", _mutant(pool=_overlap_twice), GRADIENT),
)
FEW = replace(
    BATCH_NORM_RELU_MAX_POOL,
    cases=tuple(case for case in POOLED if case.small or case.name in ("3x3/1", "3x3/2 padded")),
    dtypes=(torch.float32,),
    gradient_dtypes=(torch.float32,),
    large=(),
    mutants=MUTANTS,
)
