"""Global pooling and pooling over time with one thing wrong each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from declarations.rows import mask_of, over_time
from harness.declaration import Mutant
from right_average import _NoBackward as Rescaled
from switchgrad import ops

VALUES, GRADIENTS = "values_equal_the_loops", "gradients_equal_the_loops"


def twice(pool: Callable[..., Tensor]) -> Mutant:
    """The gradient is not scaled as it should be."""
    return Mutant("the gradient twice", lambda *x, **a: Rescaled.apply(pool(*x, **a), 2.0), GRADIENTS)


def _axes(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


def _over_channels(x: Tensor, **a: Any) -> Tensor:
    pooled = ops.global_avg_pool(x, **a)
    return pooled.mean(1, keepdim=True).expand_as(pooled)


AVERAGES = (
    Mutant("sum", ops.global_sum_pool, VALUES),
    Mutant("largest", ops.global_max_pool, VALUES),
    Mutant("without the last cell's share", lambda x, **a: ops.global_sum_pool(x, **a) / (x[0, 0].numel() + 1), VALUES),
    Mutant("over the last axis alone", lambda x, **a: ops.global_avg_pool(x[..., :1, :], **a), VALUES),
    Mutant("over the channels as well", _over_channels, VALUES),
    Mutant("absolute numbers", lambda x, **a: ops.global_avg_pool(x.abs(), **a), VALUES),
    Mutant("axes are never kept", lambda x, keepdim=False: ops.global_avg_pool(x), VALUES),
    twice(ops.global_avg_pool),
)
TOTALS = (
    Mutant("mean", ops.global_avg_pool, VALUES),
    Mutant("absolute numbers", lambda x, **a: ops.global_sum_pool(x.abs(), **a), VALUES),
    Mutant("without the first cell", lambda x, **a: ops.global_sum_pool(x, **a) - x.flatten(2)[..., 0].reshape(
        ops.global_sum_pool(x, **a).shape), VALUES),
    twice(ops.global_sum_pool),
)  # fmt: skip


def _largest(x: Tensor, keepdim: bool, change: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    values, indices = change(x.flatten(2))
    shape = (*x.shape[:2], *([1] * (x.dim() - 2) if keepdim else []))
    return values.reshape(shape), indices.reshape(shape)


def _indexed(cells: Tensor) -> tuple[Tensor, Tensor]:
    return ops.global_max_pool(cells, return_indices=True)


def _from_the_end(cells: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = _indexed(cells.flip(-1))
    return values, cells.shape[-1] - 1 - indices


def _without_nan(cells: Tensor) -> tuple[Tensor, Tensor]:
    indices = _indexed(cells.detach().nan_to_num(-math.inf, math.inf, -math.inf))[1]
    return cells.gather(-1, indices.unsqueeze(-1)), indices


def _first_nan(cells: Tensor) -> tuple[Tensor, Tensor]:
    nan = cells.isnan()
    indices = torch.where(nan.any(-1), nan.to(torch.uint8).argmax(-1), _indexed(cells)[1])
    return cells.gather(-1, indices.unsqueeze(-1)), indices


def _smallest(cells: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = _indexed(-cells)
    return -values, indices


def _shared(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Every cell that ties gets its share."""
    return cells.amax(-1), _indexed(cells)[1]


def _maxima(name: str, change: Callable[[Tensor], tuple[Tensor, Tensor]], killed_by: str = VALUES) -> Mutant:
    return Mutant(name, lambda x, keepdim=False: _largest(x, keepdim, change), killed_by)


MAXIMA = (
    _maxima("the last of ties", _from_the_end),
    _maxima("NaN is nothing", _without_nan),
    _maxima("the first NaN", _first_nan),
    _maxima("the smallest", _smallest),
    _maxima("indices count from 1", lambda cells: (_indexed(cells)[0], _indexed(cells)[1] + 1)),
    _maxima("indices count from the end", lambda cells: (_indexed(cells)[0], cells.shape[-1] - 1 - _indexed(cells)[1])),
    _maxima("never below 0", lambda cells: (_indexed(cells)[0].clamp_min(0), _indexed(cells)[1])),
    _maxima("ties share the gradient", _shared, GRADIENTS),
    _maxima("the gradient twice", lambda c: (Rescaled.apply(_indexed(c)[0], 2.0), _indexed(c)[1]), GRADIENTS),
)


def _cubes(x: Tensor, change: Callable[[Tensor], Tensor], keepdim: bool) -> Tensor:
    return change(x.abs().pow(3).sum(_axes(x), keepdim=keepdim))


NORMS = (
    Mutant("no root", lambda x, keepdim=False: _cubes(x, lambda s: s, keepdim), VALUES),
    Mutant("square root", lambda x, keepdim=False: _cubes(x, lambda s: s.sqrt(), keepdim), VALUES),
    Mutant("no power", lambda x, **a: ops.global_lp_pool(x, 1, **a), VALUES),
    Mutant("one power less", lambda x, **a: ops.global_lp_pool(x, 2, **a), VALUES),
    Mutant("the largest", lambda x, **a: ops.global_lp_pool(x, math.inf, **a), VALUES),
    Mutant("signs stay", lambda x, keepdim=False: x.pow(3).sum(_axes(x), keepdim=keepdim).abs().pow(1 / 3), VALUES),
    Mutant("mean for sum", lambda x, **a: ops.global_lp_pool(x, 3, **a) / x[0, 0].numel() ** (1 / 3), VALUES),
    twice(lambda x, **a: ops.global_lp_pool(x, 3, **a)),
)


def _generalised(x: Tensor, p: Tensor, eps: float, keepdim: bool, **wrong: Callable[..., Tensor]) -> Tensor:
    """The generalised mean by its formula, with steps replaced."""
    power = p.reshape(-1, *[1] * (x.dim() - 2)).to(torch.promote_types(x.dtype, torch.float32))
    raised = wrong.get("raise_", lambda x: x.clamp_min(eps))(x.to(power.dtype))
    mean = wrong.get("gather", lambda cells: cells.mean(_axes(x), keepdim=True))(raised.pow(power))
    pooled = wrong.get("root", lambda mean: mean.pow(1 / power))(mean).to(x.dtype)
    return pooled if keepdim else pooled.reshape(x.shape[:2])


def _gem(name: str, killed_by: str = VALUES, **wrong: Callable[..., Tensor]) -> Mutant:
    def function(x: Tensor, p: Tensor, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
        return _generalised(x, p, eps, keepdim, **wrong)

    return Mutant(name, function, killed_by)


class Through(torch.autograd.Function):
    """Raised to ``eps``, but the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        return x.clamp_min(eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _through(x: Tensor, p: Tensor, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    return _generalised(x, p, eps, keepdim, raise_=lambda x: Through.apply(x, eps))


GENERALISED = (
    _gem("no root", root=lambda mean: mean),
    _gem("square root", root=lambda mean: mean.sqrt()),
    _gem("sum for mean", gather=lambda cells: cells.sum(list(range(2, cells.dim())), keepdim=True)),
    _gem("absolute numbers", raise_=lambda x: x.abs().clamp_min(1e-6)),
    _gem("eps is always 1e-6", raise_=lambda x: x.clamp_min(1e-6)),
    _gem("eps is added", raise_=lambda x: x.clamp_min(0) + 0.5),
    Mutant("powers from the end", lambda x, p, **a: ops.gem_pool(x, p.flip(0), **a), VALUES),
    Mutant("one power for all", lambda x, p, **a: ops.gem_pool(x, p[:1], **a), VALUES),
    Mutant("a power more", lambda x, p, **a: ops.gem_pool(x, p + 1, **a), VALUES),
    Mutant("what is below eps gets a gradient", _through, GRADIENTS),
    Mutant("no gradient of the power", lambda x, p, **a: ops.gem_pool(x, p.detach(), **a) + 0 * p.sum(), GRADIENTS),
    twice(ops.gem_pool),
)  # fmt: skip


def _changed(pool: Callable[..., Tensor], change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A pooling over time with another mask."""

    def function(x: Tensor, **a: Any) -> Tensor:
        return pool(x, mask=change(mask_of(x, **a)))

    return function


def _shorter(mask: Tensor) -> Tensor:
    """The last valid step of each sequence does not count."""
    place = torch.where(mask, torch.arange(mask.shape[-1]), -1).amax(-1, keepdim=True)
    return mask & (torch.arange(mask.shape[-1]) != place)


def _spilt(x: Tensor, **a: Any) -> Tensor:
    """What lies in the padding gets a gradient."""
    spill = x.nan_to_num(0, 0, 0).masked_fill(mask_of(x, **a).unsqueeze(1), 0).sum(-1)
    return over_time(ops.sum_over_time)(x, **a) + (spill - spill.detach())


def _zeros(x: Tensor, **a: Any) -> Tensor:
    return torch.where(mask_of(x, **a).unsqueeze(1), x, 0).amax(-1)


def _wrong_steps(pool: Callable[..., Tensor]) -> tuple[Mutant, ...]:
    return (
        Mutant("the padding counts", lambda x, **a: pool(x), VALUES),
        Mutant("the padding alone counts", _changed(pool, lambda mask: ~mask), VALUES),
        Mutant("one step less", _changed(pool, _shorter), VALUES),
        Mutant("one step more", _changed(pool, lambda mask: mask | mask.roll(1, 1)), VALUES),
        Mutant("steps from the end", _changed(pool, lambda mask: mask.flip(1)), VALUES),
        Mutant("the first sequence's steps", _changed(pool, lambda mask: mask[:1].expand_as(mask)), VALUES),
        twice(over_time(pool)),
    )


LENGTHS = (
    *_wrong_steps(ops.max_over_time),
    Mutant("the padding is 0", _zeros, VALUES),
    Mutant("no step gives 0", lambda x, **a: over_time(ops.max_over_time)(x, **a).clamp_min(-1e308), VALUES),
    Mutant("the last of ties", lambda x, **a: over_time(lambda x, **k: ops.max_over_time(
        x.flip(-1), mask=mask_of(x, **a).flip(-1)))(x), VALUES),
)  # fmt: skip
MEANS_OVER_TIME = (
    *_wrong_steps(ops.avg_over_time),
    Mutant("over the padded steps", lambda x, **a: over_time(ops.sum_over_time)(x, **a) / x.shape[-1], VALUES),
    Mutant("sum", over_time(ops.sum_over_time), VALUES),
    Mutant("no step gives NaN", lambda x, **a: over_time(ops.sum_over_time)(x, **a) / mask_of(x, **a).sum(
        -1, keepdim=True), VALUES),
)  # fmt: skip
SUMS_OVER_TIME = (
    *_wrong_steps(ops.sum_over_time),
    Mutant("mean", over_time(ops.avg_over_time), VALUES),
    Mutant("the padding gets a gradient", _spilt, GRADIENTS),
)
SPILT = (Mutant("padding is multiplied away", lambda x, **a: (x * mask_of(x, **a).unsqueeze(1)).sum(-1), VALUES),)
