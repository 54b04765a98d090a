"""Numbers to test with: never monotone, always with negatives where the dtype has them, and full of nasty ones."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from harness.declaration import Case, Operator

BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
# Quiet NaN of both signs with different payloads, for each floating-point dtype.
NANS = {
    torch.float64: (0x7FF8000000000000, 0x7FF8000000000123, -0x0007FFFFFFFFF001),
    torch.float32: (0x7FC00000, 0x7FC00123, -0x003FF001),
    torch.float16: (0x7E00, 0x7E12, -0x01EF),
    torch.bfloat16: (0x7FC0, 0x7FC5, -0x003D),
}


def seeded(*words: object) -> torch.Generator:
    """A generator that depends on the words alone, so that a failure can be repeated by itself."""
    return torch.Generator().manual_seed(zlib.crc32(repr(words).encode()))


def sample(kind: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Random numbers of a kind: see the functions below. Integers know no NaN and have extremes instead."""
    return KINDS[kind](shape, dtype, generator)


def tensors(operator: Operator, case: Case, kind: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What goes into the operator in a case: by default one sample for each of its shapes."""
    generator = seeded(operator.name.split(":")[0], case.name, kind)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return sample(kind, shape, dtype, generator)

    if operator.draw is not None:
        return operator.draw(case, draw)
    return tuple(draw(shape) for shape in case.shapes)


def _choice(options: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return options[torch.randint(len(options), shape, generator=generator)]


def plain(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Normally distributed numbers, or any integers."""
    if dtype.is_floating_point:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * 8).to(dtype)
    info = torch.iinfo(dtype)
    if dtype == torch.int64:
        return torch.randint(info.min // 2, info.max // 2, shape, generator=generator)
    return torch.randint(info.min, info.max + 1, shape, generator=generator).to(dtype)


def ties(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Four numbers only, so that most windows have several maxima; both zeros among them."""
    if dtype.is_floating_point:
        return _choice(torch.tensor([-1.5, -0.0, 0.0, 2.0], dtype=dtype), shape, generator)
    info = torch.iinfo(dtype)
    return _choice(torch.tensor([info.min, 0, 1, info.max], dtype=dtype), shape, generator)


def nan(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A third are NaN, of both signs and different payloads, among infinities and plain numbers."""
    x = extreme(shape, dtype, generator)
    if not dtype.is_floating_point:
        return x
    payloads = torch.tensor(NANS[dtype]).to(BITS[dtype.itemsize])
    spoilt = torch.rand(shape, generator=generator) < 1 / 3
    return torch.where(spoilt, _choice(payloads, shape, generator), x.view(payloads.dtype)).view(dtype)


def extreme(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Infinities, the largest and the smallest numbers, both zeros."""
    if dtype.is_floating_point:
        info = torch.finfo(dtype)
        odd = [
            -math.inf,
            math.inf,
            info.max,
            info.min,
            info.tiny,
            -info.tiny,
            info.smallest_normal / 2,
            0.0,
            -0.0,
            -1.0,
        ]
    else:
        limits = torch.iinfo(dtype)
        odd = [limits.min, limits.max, limits.min + 1, limits.max - 1, limits.max // 2, limits.max // 2 + 1, 0, 1]
    return _choice(torch.tensor(odd, dtype=dtype), shape, generator)


def lowest(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Nothing but the lowest number: -inf, or the smallest integer."""
    return torch.full(shape, -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min, dtype=dtype)


def negative(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Below zero throughout, so that padding with 0 shows; the lower half of unsigned integers."""
    x = plain(shape, dtype, generator)
    if dtype == torch.uint8:
        return x // 2
    return torch.where(x > 0, -x, torch.where(x == 0, torch.full_like(x, -1), x))


def distinct(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """All different by at least 0.25, half of them below zero: a small step never changes an order."""
    count = math.prod(shape)
    return ((torch.randperm(count, generator=generator) - count // 2).reshape(shape) * 0.25 + 0.1).to(dtype)


def special(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Small whole numbers, and here and there a NaN or an infinity: whatever the order of a sum, it gives the same."""
    x = whole(shape, dtype, generator)
    if not dtype.is_floating_point:
        return x
    odd = _choice(torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype), shape, generator)
    return torch.where(torch.rand(shape, generator=generator) < 0.03, odd, x)


def whole(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Small whole numbers of both signs: their sums and products are exact in every floating-point dtype."""
    return torch.randint(-4, 5, shape, generator=generator).to(dtype)


KINDS: dict[str, Callable[[tuple[int, ...], torch.dtype, torch.Generator], Tensor]] = {
    "plain": plain,
    "ties": ties,
    "nan": nan,
    "extreme": extreme,
    "lowest": lowest,
    "negative": negative,
    "distinct": distinct,
    "whole": whole,
    "special": special,
}
