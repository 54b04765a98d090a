"""ReLU and max pooling in one declares itself to the harness, with and without a slope below 0, and its mutants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import laws
import loops
from conform import FLOATS, Case, Mutant, Operator
from declarations.max_pool import CASES, LARGE, max_pool
from right_pooling import Pooling
from switchgrad import geometry, nn, ops

NAMES = (
    "2x2/2",
    "3x3/2 padded",
    "3x2, all different",
    "2x2/2 odd, ceil",
    "3x3/1",
    "2x2/2 rows overlap",
    "dilated",
    "one cell, padded",
    "one row",
    "wide",
    "wide 3x3/2",
    "many channels",
    "256 cells in a window",
    "asymmetric, ceil",
    "windows without a cell",
)
SLOPE = 0.25  # a power of two: products are exact


def _function(x: Tensor, **arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    values, switches = ops.relu_max_pool2d(x, **arguments, return_switches=True)
    return values, switches.to_indices(), switches.codes


def _alive(x: np.ndarray) -> np.ndarray:
    return (x > 0) | np.isnan(x)


def _reference(x: np.ndarray, *, negative_slope: float = 0.0, **arguments: Any) -> tuple[np.ndarray, ...]:
    """The activation first, cell by cell, and the pooling of what it gives."""
    activated = np.where(_alive(x), x, negative_slope * x if negative_slope else 0).astype(x.dtype)
    values, indices, offsets = loops.max_pool(activated, 2, **arguments)
    if negative_slope:
        return values, indices, offsets
    dead = ~_alive(values)
    return values, np.where(dead, -1, indices), np.where(dead, -1, offsets)


def _gradient(grad: np.ndarray, x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
    values, indices, _ = _reference(x, **arguments)
    sent = np.where(values > 0, grad, arguments.get("negative_slope", 0) * grad).astype(grad.dtype)
    if not arguments.get("negative_slope"):
        sent = np.where(_alive(values), grad, 0).astype(grad.dtype)
    return (loops.put_back(sent, indices, x.shape[-2:], add=True),)


def _peer(x: Tensor, *, negative_slope: float = 0.0, **arguments: Any) -> Tensor:
    if negative_slope:
        return F.max_pool2d(F.leaky_relu(x, negative_slope), **arguments)
    return F.max_pool2d(F.relu(x), **arguments) + 0  # -0, which PyTorch's ReLU lets pass, becomes +0


def _registered(x: Tensor, **arguments: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    window = geometry.window(2, **arguments, input_size=list(x.shape[-2:])).numbers
    return [
        (torch.ops.switchgrad.relu_max_pool.default, (x, window)),
        (torch.ops.switchgrad.relu_max_pool_values.default, (x, window)),
    ]


_PLAIN = max_pool(2)
RELU_MAX_POOL = replace(
    _PLAIN,
    name="relu_max_pool2d",
    function=_function,
    values_only=ops.relu_max_pool2d,
    cases=tuple(case for case in CASES[2] if case.name in NAMES),
    reference=_reference,
    reference_gradient=_gradient,
    peer=_peer,
    dtypes=FLOATS,
    laws=(laws.Monotone(), laws.Adjoint()),
    large=LARGE[2][1:],
    registered=_registered,
    layer=lambda case: nn.ReLUMaxPool2d(**case.arguments),
)


def _leaky(case: Case) -> Case:
    return replace(case, arguments={**case.arguments, "negative_slope": SLOPE})


LEAKY_MAX_POOL = replace(
    RELU_MAX_POOL,
    name="relu_max_pool2d with a slope",
    cases=tuple(_leaky(case) for case in RELU_MAX_POOL.cases if case.small or "ceil" in case.name),
    samples=("plain", "ties", "lowest", "negative"),
    large=tuple(_leaky(case) for case in RELU_MAX_POOL.large),
    laws=(laws.Monotone(),),
    saved_bytes=None,
    registered=None,
)


# ---- mutants -----------------------------------------------------------------------------------------------------


class Rectified(Pooling):
    """Pooling behind a ReLU, done right: dead windows give 0 and have no winner."""

    def compete(self, planes: Tensor, along: list[loops.Axis]) -> tuple[Tensor, Tensor, Tensor]:
        best, codes, indices = super().compete(planes, along)
        dead = self.dead(best, indices)
        return self.cut(best, dead), self.mark(codes, dead), self.disown(indices, dead)

    def dead(self, best: Tensor, indices: Tensor) -> Tensor:
        return (best <= 0) & (indices >= 0)

    def cut(self, best: Tensor, dead: Tensor) -> Tensor:
        return torch.where(dead, 0, best)

    def mark(self, codes: Tensor, dead: Tensor) -> Tensor:
        return torch.where(dead, 255, codes).to(torch.uint8)

    def disown(self, indices: Tensor, dead: Tensor) -> Tensor:
        return torch.where(dead, -1, indices)


class DeadWinnerGetsGradient(Rectified):
    def derive(self, x: Tensor, indices: Tensor, values: Tensor, along: list[loops.Axis]) -> Tensor:
        return super().derive(x, torch.where(indices < 0, 0, indices), values, along)


class DeadWindowNamesItsWinner(Rectified):
    def mark(self, codes: Tensor, dead: Tensor) -> Tensor:
        return codes


class NoReLU(Rectified):
    def dead(self, best: Tensor, indices: Tensor) -> Tensor:
        return torch.zeros_like(best, dtype=torch.bool)


class ZeroIsAlive(Rectified):
    def dead(self, best: Tensor, indices: Tensor) -> Tensor:
        return (best < 0) & (indices >= 0)


class NaNIsDead(Rectified):
    def dead(self, best: Tensor, indices: Tensor) -> Tensor:
        return ~(best > 0) & (indices >= 0)


class EmptyWindowsGiveZero(Rectified):
    def dead(self, best: Tensor, indices: Tensor) -> Tensor:
        return best <= 0


class DeadValueStays(Rectified):
    def cut(self, best: Tensor, dead: Tensor) -> Tensor:
        return best


class AbsoluteValue(Rectified):
    def cut(self, best: Tensor, dead: Tensor) -> Tensor:
        return best.abs()


class WinnerForgotten(Rectified):
    """The last window of each map loses its winner."""

    def derive(self, x: Tensor, indices: Tensor, values: Tensor, along: list[loops.Axis]) -> Tensor:
        last = torch.zeros_like(indices)
        last[..., -1, -1] = 1
        return super().derive(x, torch.where(last == 1, -1, indices), values, along)


class OverlapOnce(Rectified):
    """A cell that wins several windows gets the gradient of the first one only."""

    def derive(self, x: Tensor, indices: Tensor, values: Tensor, along: list[loops.Axis]) -> Tensor:
        flat = indices.flatten(-2)
        seen = (flat[..., :, None] == flat[..., None, :]).tril(-1).any(-1).reshape(indices.shape)
        return super().derive(x, torch.where(seen, -1, indices), values, along)


LOOPS, GRADIENT = "values_equal_the_loops", "gradients_equal_the_loops"
MUTANTS = (
    Mutant("dead winner given gradient", DeadWinnerGetsGradient(), GRADIENT),
    Mutant("dead window names its winner", DeadWindowNamesItsWinner(), LOOPS),
    Mutant("no ReLU", NoReLU(), LOOPS),
    Mutant("a maximum of 0 is alive", ZeroIsAlive(), LOOPS),
    Mutant("NaN is dead", NaNIsDead(), LOOPS),
    Mutant("windows without a cell give 0", EmptyWindowsGiveZero(), LOOPS),
    Mutant("dead values stay below 0", DeadValueStays(), LOOPS),
    Mutant("absolute value for ReLU", AbsoluteValue(), LOOPS),
    Mutant("a winner forgotten", WinnerForgotten(), GRADIENT),
    Mutant("overlap counted once", OverlapOnce(), GRADIENT),
)
FEW: Operator = replace(
    RELU_MAX_POOL,
    cases=tuple(c for c in RELU_MAX_POOL.cases if c.small or c.name == "windows without a cell"),
    dtypes=(torch.float32, torch.bfloat16),
    large=(),
    gradient_dtypes=(torch.float32,),
    mutants=MUTANTS,
)
