"""Global pooling and pooling over time declare themselves to the harness; their mutants are in `wrong_rows`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rows
from conform import FLOATS, Case, Operator
from switchgrad import ops

MAPS = (
    Case("maps", ((2, 3, 3, 4),), small=True),
    Case("signals, kept", ((2, 2, 5),), {"keepdim": True}, small=True),
    Case("volumes", ((1, 2, 2, 3, 4),)),
    Case("four axes", ((2, 1, 2, 1, 3, 2),), {"keepdim": True}),
    Case("one cell", ((2, 3, 1, 1),)),
    Case("wider than a vector", ((1, 2, 1, 151),)),
    Case("many channels", ((1, 70, 2, 3),)),
)
FEW_MAPS = (*MAPS[:3], MAPS[4])
GAPS = (
    (True, False, True, True, False, False),
    (True, True, True, True, True, True),
    (False, True, False, True, False, True),
)
TIMES = (
    Case("all steps", ((2, 3, 5),), small=True),
    Case("lengths", ((3, 2, 6),), {"lengths": (4, 6, 1)}, small=True),
    Case("gaps", ((3, 2, 6),), {"mask": GAPS}, small=True),
    Case("one has no step", ((2, 3, 4),), {"lengths": (0, 3)}),
    Case("none at the end", ((2, 2, 3),), {"mask": ((True, True, False), (False, False, False))}),
)
SUMS: dict[str, Any] = {
    "dtypes": FLOATS,
    "samples": ("plain", "ties", "whole", "negative"),
    "exact": False,
    "exact_samples": ("whole", "ties", "special"),
    "same_bits": False,
}
ROOTS: dict[str, Any] = {
    "dtypes": FLOATS,
    "samples": ("plain", "whole", "negative"),
    "exact": False,
    "same_bits": False,
    "cancels": True,
    "yardstick": 3,
}
MAXIMA: dict[str, Any] = {
    "dtypes": FLOATS,
    "samples": ("plain", "ties", "nan", "extreme", "lowest", "negative"),
}


def of_rows(
    name: str,
    function: Callable[..., Any],
    rule: rows.Rule,
    slope: rows.Slope,
    cases: tuple[Case, ...],
    **promises: Any,
) -> Operator:
    """A declaration: the rule of a row, and its derivative."""
    return Operator(
        name=name,
        function=function,
        cases=cases,
        reference=lambda x, **a: (rows.pooled(x, rule, **a),),
        reference_gradient=lambda grad, x, **a: (rows.sent_back(grad, x, slope, **a),),
        unbatched=False,
        keeps_layout=False,
        **({"native": False} | promises),
    )


def padding(x: Tensor, a: dict[str, Any]) -> dict[str, Tensor]:
    """A case's lengths or mask as tensors, as many as there are elements."""
    return {name: torch.tensor(value)[: x.shape[0]] for name, value in a.items()}


def mask_of(x: Tensor, **a: Any) -> Tensor:
    """Which steps of a case count, (N, L)."""
    given = padding(x, a)
    if "lengths" in given:
        return torch.arange(x.shape[-1]) < given["lengths"].unsqueeze(1)
    return given.get("mask", torch.ones(x.shape[0], x.shape[-1], dtype=torch.bool))


def with_garbage(operator: Operator) -> Operator:
    """The declaration with NaN in all of the padding."""

    def draw(case: Case, fresh: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        x = fresh(case.shapes[0])
        return (x.masked_fill(~mask_of(x, **case.arguments).unsqueeze(1), torch.nan),)

    return replace(operator, draw=draw, dtypes=(torch.float64, torch.float32))


def over_time(pool: Callable[..., Tensor], *more: Any) -> Callable[..., Tensor]:
    """A pooling over time whose lengths or mask are a case's arguments."""
    return lambda x, **a: pool(x, *more, **padding(x, a))


def evenly(cells: list[Any], grad: Any) -> list[Any]:
    return [grad / len(cells) for _ in cells]


def to_all(cells: list[Any], grad: Any) -> list[Any]:
    return [grad] * len(cells)


def to_the_largest(cells: list[Any], grad: Any) -> list[Any]:
    winner = rows.place(cells)
    return [grad if i == winner else 0.0 for i in range(len(cells))]


def by_norm(p: float) -> tuple[rows.Rule, rows.Slope]:
    return lambda cells: rows.norm(cells, p), lambda cells, grad: rows.norm_slope(cells, grad, p)


GLOBAL_AVG = of_rows("global_avg_pool", ops.global_avg_pool, rows.mean, evenly, FEW_MAPS, **SUMS)
GLOBAL_SUM = of_rows("global_sum_pool", ops.global_sum_pool, rows.total, to_all, FEW_MAPS, **SUMS)
GLOBAL_MAX = Operator(
    name="global_max_pool",
    function=lambda x, **a: ops.global_max_pool(x, return_indices=True, **a),
    values_only=ops.global_max_pool,
    cases=MAPS,
    reference=lambda x, **a: (rows.pooled(x, rows.largest, **a), rows.places(x, **a)),
    reference_gradient=lambda grad, x, **a: (rows.sent_back(grad, x, to_the_largest, **a),),
    unbatched=False,
    keeps_layout=False,
    **MAXIMA,
)


def global_lp(p: float) -> Operator:
    return of_rows(
        f"global_lp_pool {p:g}", lambda x, **a: ops.global_lp_pool(x, p, **a), *by_norm(p), FEW_MAPS, **ROOTS
    )


GEM_CASES = (
    Case("maps", ((2, 3, 3, 4), (3,)), small=True),
    Case("signals, kept", ((2, 3, 5), (3,)), {"keepdim": True}, small=True),
    Case("volumes, eps of a half", ((1, 3, 2, 2, 3), (3,)), {"eps": 0.5}, small=True),
    Case("one cell", ((2, 3, 1, 1), (3,)), {"eps": 0.25}),
)


def _by_channel(rule: Callable[[list[Any], Any, float], Any], x: np.ndarray, p: np.ndarray, eps: float) -> list[Any]:
    """``rule`` of each map's cells with its channel's power."""
    return [rule(rows.row(x, n, c, list(range(x[n, c].size))), p[c], eps) for n, c in np.ndindex(*x.shape[:2])]


def _gem(x: np.ndarray, p: np.ndarray, eps: float = 1e-6, keepdim: bool = False) -> tuple[np.ndarray, ...]:
    shape = (*x.shape[:2], *([1] * (x.ndim - 2) if keepdim else []))
    return (np.array(_by_channel(rows.generalised_mean, x, p, eps)).reshape(shape),)


def _gem_gradient(
    grad: np.ndarray, x: np.ndarray, p: np.ndarray, eps: float = 1e-6, keepdim: bool = False
) -> tuple[np.ndarray, ...]:
    sent = grad.reshape(*x.shape[:2])
    slopes = np.array(_by_channel(rows.generalised_slope, x, p, eps)).reshape(x.shape)
    powers = np.array(_by_channel(rows.generalised_slope_of_p, x, p, eps)).reshape(sent.shape)
    return slopes * sent.reshape(*sent.shape, *[1] * (x.ndim - 2)), (powers * sent).sum(0)


GEM = Operator(
    name="gem_pool",
    function=ops.gem_pool,
    cases=GEM_CASES,
    reference=_gem,
    reference_gradient=_gem_gradient,
    draw=lambda case, draw: ((x := draw(case.shapes[0])), torch.tensor([1.0, 2.5, 4.0]).to(x.dtype)),
    weights=(1,),
    differentiable=(0, 1),
    unbatched=False,
    keeps_layout=False,
    native=False,
    **ROOTS,
)

SUM_OVER_TIME = of_rows("sum_over_time", over_time(ops.sum_over_time), rows.total, to_all, TIMES, **SUMS)
AVG_OVER_TIME = of_rows("avg_over_time", over_time(ops.avg_over_time), rows.mean, evenly, TIMES, **SUMS)
MAX_OVER_TIME = of_rows("max_over_time", over_time(ops.max_over_time), rows.largest, to_the_largest, TIMES, **MAXIMA)


def lp_over_time(p: float) -> Operator:
    return of_rows(f"lp_over_time {p:g}", over_time(ops.lp_over_time, p), *by_norm(p), TIMES, **ROOTS)


NORMS = (1.0, 2.0, 3.0, math.inf)
