"""Pooling of parts with one thing wrong each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import parts
from declarations.parts import CHUNK_MAX, FRACTIONAL, K_MAX, K_RANGE, LOSS_MAX, SUBSAMPLING, fractional_random, pyramid
from harness.declaration import Mutant
from right_average import _NoBackward as Rescaled
from switchgrad import ops

VALUES, GRADIENTS = "values_equal_the_loops", "gradients_equal_the_loops"


def doubled(function: Callable[..., Any]) -> Mutant:
    def twice(*given: Tensor, **a: Any) -> Any:
        found = function(*given, **a)
        if isinstance(found, tuple):
            return Rescaled.apply(found[0], 2.0), *found[1:]
        return Rescaled.apply(found, 2.0)

    return Mutant("the gradient twice", twice, GRADIENTS)


# ---- sequences ---------------------------------------------------------------------------------------------------


def _at(x: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    return x.gather(-1, indices), indices


def _kept(x: Tensor, k: int) -> Tensor:
    return ops.k_max_pool(x.detach(), k, return_indices=True)[1]


def _by_size(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _at(x, torch.sort(x.detach(), stable=True, dim=-1, descending=True).indices[..., :k])


def _later_ties(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _at(x, (x.shape[-1] - 1 - _kept(x.flip(-1), k)).flip(-1))


def _smallest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    order = torch.sort(x.detach(), stable=True, dim=-1).indices
    return _at(x, order[..., :k].sort(-1).values)


def _without_nan(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _at(x, _kept(x.nan_to_num(-math.inf, math.inf, -math.inf) if x.is_floating_point() else x, k))


K_MAX_MUTANTS = (
    Mutant("in order of size", _by_size, VALUES),
    Mutant("of equal ones the later", _later_ties, VALUES),
    Mutant("the smallest", _smallest, VALUES),
    Mutant("the first k", lambda x, k: _at(x, torch.arange(k).expand(*x.shape[:-1], k)), VALUES),
    Mutant("the largest absolute numbers", lambda x, k: _at(x, _kept(x.abs(), k)), VALUES),
    Mutant("NaN is nothing", _without_nan, VALUES),
    Mutant("of each batch's first row", lambda x, k: _at(x, _kept(x, k)[:1].expand(*x.shape[:-1], k)), VALUES),
    Mutant("indices count from 1", lambda x, k: (_at(x, _kept(x, k))[0], _kept(x, k) + 1), VALUES),
    doubled(K_MAX.function),
)


def _over(bins: Callable[..., list[list[int]]]) -> Callable[..., Tensor]:
    """Maxima over other bins of a sequence."""

    def function(x: Tensor, **a: Any) -> Tensor:
        return torch.stack([ops.k_max_pool(x[..., cells], 1)[..., 0] for cells in bins(x.shape[-1], **a)], -1)

    return function


def _inwards(steps: int, chunks: int) -> list[list[int]]:
    """From the ceiling up to the floor."""
    ends = [(math.ceil(i * steps / chunks), (i + 1) * steps // chunks) for i in range(chunks)]
    return [list(range(min(a, steps - 1), max(b, min(a, steps - 1) + 1))) for a, b in ends]


def _wide_chunks(steps: int, chunks: int) -> list[list[int]]:
    size = math.ceil(steps / chunks)
    starts = [min(i * size, steps - 1) for i in range(chunks)]
    return [list(range(a, min(a + size, steps))) for a in starts]


def _moved(bins: list[list[int]], steps: int) -> list[list[int]]:
    return [[min(at + 1, steps - 1) for at in cells] for cells in bins]


def _shared(bins: Callable[..., list[list[int]]]) -> Callable[..., Tensor]:
    """Ties share the gradient; which NaN wins shows no difference in values."""
    return lambda x, **a: torch.stack([x[..., cells].amax(-1) for cells in bins(x.shape[-1], **a)], -1)


CHUNK_MUTANTS = (
    Mutant("bins rounded the other way", _over(_inwards), VALUES),
    Mutant("bins as wide as the widest", _over(_wide_chunks), VALUES),
    Mutant("bins moved by one", _over(lambda steps, chunks: _moved(parts.chunks(steps, chunks), steps)), VALUES),
    Mutant("mean", lambda x, chunks: ops.adaptive_avg_pool1d(x, chunks), VALUES),
    Mutant("from the end", lambda x, chunks: ops.chunk_max_pool(x, chunks).flip(-1), VALUES),
    Mutant("the smallest", lambda x, chunks: -ops.chunk_max_pool(-x, chunks), VALUES),
    doubled(CHUNK_MAX.function),
)
RANGE_MUTANTS = (
    Mutant("no shorter last range", lambda x, k, stride=None: ops.max_pool1d(x, k, stride), VALUES),
    Mutant("ranges of one more", _over(lambda steps, k, stride=None: [
        list(range(cells[0], min(cells[0] + k + 1, steps))) for cells in parts.ranges(steps, k, stride)]), VALUES),
    Mutant("ranges moved by one", _over(lambda steps, **a: _moved(parts.ranges(steps, **a), steps)), VALUES),
    Mutant("never overlapping", lambda x, k, stride=None: ops.k_range_max_pool(x, k), VALUES),
    Mutant("ties share the gradient", _shared(parts.ranges), GRADIENTS),
    doubled(K_RANGE.function),
)  # fmt: skip

# ---- maps --------------------------------------------------------------------------------------------------------


def _levels(x: Tensor, levels: Sequence[int], mode: Any = "max") -> list[Tensor]:
    """Each level as a map (N, C, bins)."""
    return [ops.spatial_pyramid_pool(x, (level,), mode).unflatten(1, (x.shape[1], -1)) for level in levels]


PYRAMID_MUTANTS = (
    Mutant("levels from the other end", lambda x, levels: ops.spatial_pyramid_pool(x, levels[::-1]), VALUES),
    Mutant("average", lambda x, levels: ops.spatial_pyramid_pool(x, levels, "average"), VALUES),
    Mutant("channels outermost", lambda x, levels: torch.cat(_levels(x, levels), -1).flatten(1), VALUES),
    Mutant("channels innermost", lambda x, levels: torch.cat([m.transpose(1, 2).flatten(1) for m in _levels(
        x, levels)], 1), VALUES),
    Mutant("columns before rows", lambda x, levels: ops.spatial_pyramid_pool(x.transpose(2, -1), levels), VALUES),
    Mutant("bins from the end", lambda x, levels: torch.cat([m.flip(-1).flatten(1) for m in _levels(
        x, levels)], 1), VALUES),
    doubled(pyramid("max").function),
)  # fmt: skip
AVERAGE_MUTANTS = (
    Mutant("maximum", ops.spatial_pyramid_pool, VALUES),
    Mutant("levels by their bins", lambda x, levels: torch.cat([m.flatten(1) / m.shape[-1] for m in _levels(
        x, levels, "average")], 1), VALUES),
    doubled(pyramid("average").function),
)  # fmt: skip


def _vlad(
    x: Tensor, codebook: Tensor, alpha: float | None = None, normalise: bool = True, **wrong: Callable[..., Tensor]
) -> Tensor:
    """VLAD by its formula, with steps replaced."""
    far = wrong.get("far", lambda x, c: (x[:, :, None] - c).square().sum(-1))(x, codebook)
    hard = wrong.get("nearest", lambda far: far.argmin(-1))
    share = (
        torch.nn.functional.one_hot(hard(far.detach()), len(codebook)).to(x.dtype)
        if alpha is None
        else wrong.get("soften", lambda far, alpha: (-alpha * far).softmax(-1))(far, alpha)
    )
    sums = wrong.get("gather", lambda share, x, c: (share[..., None] * (x[:, :, None] - c)).sum(1))(share, x, codebook)
    if normalise:
        sums = wrong.get("scale", _both_norms)(sums)
    return sums.flatten(1)


def _both_norms(sums: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize
    return unit(unit(sums, dim=-1).flatten(1), dim=-1)


def _v(name: str, **wrong: Callable[..., Tensor]) -> Mutant:
    return Mutant(name, lambda x, codebook, **a: _vlad(x, codebook, **a, **wrong), VALUES)


VLAD_MUTANTS = (
    _v("centre less descriptor", gather=lambda share, x, c: (share[..., None] * (c - x[:, :, None])).sum(1)),
    _v("centres are not subtracted", gather=lambda share, x, c: share.transpose(1, 2) @ x),
    _v("centres are subtracted once", gather=lambda share, x, c: share.transpose(1, 2) @ x - c),
    _v("mean for sum", gather=lambda share, x, c: (share[..., None] * (x[:, :, None] - c)).mean(1)),
    _v("the farthest centre", nearest=lambda far: far.argmax(-1)),
    _v("of equally near centres the last", nearest=lambda far: far.shape[-1] - 1 - far.flip(-1).argmin(-1)),
    _v("nearest by rows and columns", far=lambda x, c: (x[:, :, None] - c).abs().sum(-1)),
    _v("nearest by product", far=lambda x, c: -(x @ c.t())),
    _v("distances not squared", far=lambda x, c: torch.cdist(x, c.expand(len(x), *c.shape))),
    _v("the far share more", soften=lambda far, alpha: (alpha * far).softmax(-1)),
    _v("alpha is forgotten", soften=lambda far, alpha: (-far).softmax(-1)),
    _v("shares over descriptors", soften=lambda far, alpha: (-alpha * far).softmax(1)),
    _v("only the whole has length 1", scale=lambda s: torch.nn.functional.normalize(s.flatten(1), dim=-1)),
    _v("only the parts have length 1", scale=lambda s: torch.nn.functional.normalize(s, dim=-1)),
)


def _sums(x: Tensor, kernel: Any, stride: Any) -> Tensor:
    pool = {1: ops.sum_pool1d, 2: ops.sum_pool2d, 3: ops.sum_pool3d}[len(kernel)]
    return pool(x, kernel, stride)


def _subsample(name: str, combine: Callable[..., Tensor], killed_by: str = VALUES) -> Mutant:
    """Sums, coefficient, bias (each map's in its axis) and the number of cells put together in another way."""

    def function(x: Tensor, coefficient: Tensor, bias: Tensor, kernel: Any, stride: Any) -> Tensor:
        each = (-1, *[1] * len(kernel))
        return combine(_sums(x, kernel, stride), coefficient.reshape(each), bias.reshape(each), math.prod(kernel))

    return Mutant(name, function, killed_by)


SUBSAMPLING_MUTANTS = (
    _subsample("bias before coefficient", lambda s, c, b, n: (s + b) * c),
    _subsample("mean for sum", lambda s, c, b, n: c * s / n + b),
    _subsample("no bias", lambda s, c, b, n: c * s + 0 * b),
    _subsample("bias subtracted", lambda s, c, b, n: c * s - b),
    _subsample("no coefficient", lambda s, c, b, n: s + b + 0 * c),
    _subsample("the first map's coefficient", lambda s, c, b, n: c[:1] * s + b),
    _subsample("the first map's bias", lambda s, c, b, n: c * s + b[:1]),
    _subsample("one bias a cell", lambda s, c, b, n: c * s + n * b),
    Mutant("windows off by one", lambda x, *w, **a: SUBSAMPLING.function(x.roll(-1, -1), *w, **a), VALUES),
    _subsample("no gradient of the coefficient", lambda s, c, b, n: c.detach() * s + b + 0 * c, GRADIENTS),
    _subsample("bias gets one cell's gradient", lambda s, c, b, n: c * s + Rescaled.apply(b + 0 * s, 0.5), GRADIENTS),
    doubled(SUBSAMPLING.function),
)

# ---- losses ------------------------------------------------------------------------------------------------------


def _rows(losses: Tensor, per_sample: bool, weigh: Callable[[Tensor], Tensor]) -> Tensor:
    rows = losses.flatten(1) if per_sample else losses.reshape(1, -1)
    sums = (torch.stack([weigh(row.detach().clamp_min(0)) for row in rows]) * rows).sum(-1)
    return sums if per_sample else sums[0]


def _unbounded(losses: Tensor, ratio: float, p: float, per_sample: bool = False) -> Tensor:
    """The p-norm is kept, no weight is held below tau."""
    q = math.inf if p == 1 else 1.0 if p == math.inf else p / (p - 1)

    def weigh(row: Tensor) -> Tensor:
        powers = (row / row.max().clamp_min(1e-9)).pow(min(q - 1, 60.0))
        return powers / powers.pow(p).sum().clamp_min(1e-9).pow(1 / p) * len(row) ** (-1 / q)

    return _rows(losses, per_sample, weigh)


def _greatest(losses: Tensor, ratio: float, p: float, per_sample: bool = False) -> Tensor:
    return ops.loss_max_pool(losses, ratio, 1.0, per_sample)


LOSS_MUTANTS = (
    Mutant("the bound is ignored", _unbounded, VALUES),
    Mutant("the norm is ignored", _greatest, VALUES),
    Mutant("the other exponent", lambda x, ratio, p, **a: ops.loss_max_pool(
        x, ratio, p / (p - 1) if 1 < p < math.inf else p, **a), VALUES),
    Mutant("mean", lambda x, ratio, p, **a: ops.loss_max_pool(x, ratio, math.inf, **a), VALUES),
    Mutant("one pixel more", lambda x, ratio, p, **a: ops.loss_max_pool(x, min(ratio + 0.1, 1.0), p, **a), VALUES),
    Mutant("ratio of the others", lambda x, ratio, p, **a: ops.loss_max_pool(x, 1.001 - ratio, p, **a), VALUES),
    Mutant("the smallest losses", lambda x, ratio, p, **a: -ops.loss_max_pool(-x, ratio, p, **a), VALUES),
    Mutant("absolute losses", lambda x, **a: ops.loss_max_pool(x.abs(), **a), VALUES),
    Mutant("all samples at once", lambda x, ratio, p, per_sample=False: ops.loss_max_pool(x, ratio, p).expand(
        (len(x),) if per_sample else ()), VALUES),
    doubled(LOSS_MAX.function),
)  # fmt: skip

# ---- fractional --------------------------------------------------------------------------------------------------


def _placed(rule: Callable[..., list[int]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Windows at other places."""

    def function(x: Tensor, samples: Tensor, kernel: Any, places: Any) -> tuple[Tensor, Tensor]:
        size, dims = x.shape[2:], len(kernel)
        flat = torch.arange(math.prod(size)).reshape(size)
        rows = []
        for n in range(x.shape[0]):
            for c in range(x.shape[1]):
                us = samples[n, c].tolist() if dims == 3 else samples[n, c].tolist()[::-1]
                starts = [rule(*axis) for axis in zip(us, size, kernel, places, strict=True)]
                for at in torch.cartesian_prod(*map(torch.arange, places)).reshape(-1, dims).tolist():
                    cut = tuple(slice(s[i], s[i] + r) for s, i, r in zip(starts, at, kernel, strict=True))
                    cells = flat[cut].flatten()
                    window = x[n, c].flatten()[cells]
                    value, place = ops.global_max_pool(window[None, None], return_indices=True)
                    rows.append((value[0, 0], cells[place[0, 0]]))
        shape = (*x.shape[:2], *places)
        return tuple(torch.stack(column).reshape(shape) for column in zip(*rows, strict=True))  # type: ignore

    return function


def _swapped(x: Tensor, samples: Tensor, kernel: Any, places: Any) -> tuple[Tensor, Tensor]:
    return FRACTIONAL.function(x, samples.flip(-1), kernel, places)


FRACTIONAL_MUTANTS = (
    Mutant("the axes' samples exchanged", _swapped, VALUES),
    Mutant("every map by the first map's samples", lambda x, samples, **a: FRACTIONAL.function(
        x, samples[:1, :1].expand_as(samples).contiguous(), **a), VALUES),
    Mutant("samples are ignored", lambda x, s, **a: FRACTIONAL.function(x, s * 0, **a), VALUES),
    Mutant("rounded up", _placed(lambda u, h, r, p: [min(max(math.ceil((h - r) / max(p - 1, 1) * (i + u)) - math.ceil(
        (h - r) / max(p - 1, 1) * u), 0), h - r) for i in range(p - 1)] + [h - r]), VALUES),
    Mutant("the first is not moved to 0", _placed(lambda u, h, r, p: [min(math.floor(
        (h - r) / max(p - 1, 1) * (i + u)), h - r) for i in range(p - 1)] + [h - r]), VALUES),
    Mutant("the last is not moved to the end", _placed(lambda u, h, r, p: [
        s - (i == p - 1) * (s > 0) for i, s in enumerate(parts.pseudorandom_starts(u, h, r, p))]), VALUES),
    Mutant("windows off by one", _placed(
        lambda u, h, r, p: [min(s + 1, h - r) for s in parts.pseudorandom_starts(u, h, r, p)]
    ), VALUES),
    Mutant("equal steps of the whole size", _placed(lambda u, h, r, p: [
        min(i * h // p, h - r) for i in range(p)]), VALUES),
    Mutant("windows of one cell less", lambda x, s, kernel, places: _placed(parts.pseudorandom_starts)(
        x, s, tuple(max(r - 1, 1) for r in kernel), places), VALUES),
    doubled(FRACTIONAL.function),
)  # fmt: skip


def _steps(change: Callable[[list[int]], list[int]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Random windows whose steps were changed."""

    def starts(numbers: list[float], h: int, r: int, p: int) -> list[int]:
        right = parts.random_starts(numbers, h, r, p)
        steps = change([b - a for a, b in itertools.pairwise(right)])
        return [min(right[0] + sum(steps[:i]), h - r) for i in range(p)]

    return _placed(starts)


RANDOM_MUTANTS = (
    Mutant("the largest numbers are the long steps", lambda x, s, **a: fractional_random(x, 1 - s, **a), VALUES),
    Mutant("long steps first", _steps(lambda steps: sorted(steps, reverse=True)), VALUES),
    Mutant("long steps last", _steps(sorted), VALUES),
    Mutant("steps from the end", _steps(lambda steps: steps[::-1]), VALUES),
    Mutant("short steps alone", _steps(lambda steps: [min(steps)] * len(steps) if steps else []), VALUES),
    Mutant("long steps alone", _steps(lambda steps: [max(steps)] * len(steps) if steps else []), VALUES),
    Mutant("the axes' samples exchanged", lambda x, s, **a: fractional_random(x, s.flip(2), **a), VALUES),
    doubled(fractional_random),
)
RIGHT_RANDOM = _placed(parts.random_starts)
RIGHT_FRACTIONAL = _placed(parts.pseudorandom_starts)
RIGHT_VLAD = _vlad
