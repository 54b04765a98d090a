"""Stochastic pooling and max-pooling dropout declare themselves to the harness, for one seed, and their mutants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import drawn
import laws
import loops
from conform import FLOATS, Case, Mutant, Operator
from declarations.max_pool import CASES, _codes_bytes
from switchgrad import geometry, ops
from switchgrad.ops import counted
from switchgrad.ops.max_pool import reference as plain
from switchgrad.ops.stochastic import reference
from switchgrad.ops.stochastic.autograd import Name, pool_by_words
from switchgrad.ops.switches import Switches

SEED = 0x0123456789ABCDEF
P = 0.4
NAMES = {
    1: ("overlapping", "odd, ceil", "wide pairs", "wide 5/3 dilated"),
    2: (
        "2x2/2",
        "3x3/2 padded",
        "3x2, all different",
        "2x2/2 odd, ceil",
        "3x3/1",
        "dilated",
        "hops",
        "one cell, padded",
        "one row",
        "many channels 3x3/2",
        "256 cells in a window",
        "asymmetric, ceil",
        "windows without a cell",
    ),
    3: ("2x2x2", "overlapping", "all different", "dilated"),
}
LARGE = Case("large", ((2, 8, 40, 61),), {"kernel_size": 3, "stride": 2, "padding": 1})
MORE: dict[str, tuple[float, ...]] = {"stochastic_pool": (), "max_pool_dropout": (P,)}
LOOPS = {"stochastic_pool": drawn.stochastic_pool, "max_pool_dropout": drawn.max_pool_dropout}


def _window(x: Tensor, dims: int, arguments: dict[str, Any]) -> geometry.Window:
    return geometry.window(dims, **arguments, input_size=list(x.shape[-dims:]))


def random_pool(name: Name, dims: int) -> Operator:
    """The declaration of a random pooling over ``dims`` axes."""

    def function(x: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
        win = _window(x, dims, arguments)
        values, codes = pool_by_words(name, x, torch.tensor(SEED, device=x.device), win, *MORE[name])
        return values, Switches(codes, win, tuple(x.shape[-dims:])).to_indices(), codes

    def short(x: Tensor, **arguments: Any) -> Tensor:
        seed = torch.tensor(SEED, device=x.device)
        return pool_by_words(name, x, seed, _window(x, dims, arguments), *MORE[name])[0]

    def loop(x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        return LOOPS[name](x, dims, SEED, *MORE[name], **arguments)

    def gradient(grad: np.ndarray, x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        return (loops.put_back(grad, loop(x, **arguments)[1], x.shape[-dims:], add=True),)

    def registered(x: Tensor, **arguments: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        window = _window(x, dims, arguments).numbers
        operator = getattr(torch.ops.switchgrad, name).default
        return [(operator, (x, torch.tensor(SEED), *MORE[name], window))]

    return Operator(
        name=f"{name}{dims}d",
        function=function,
        values_only=short,
        cases=tuple(case for case in CASES[dims] if case.name in NAMES[dims]),
        reference=loop,
        reference_gradient=gradient,
        dtypes=FLOATS,
        samples=("plain", "ties", "nan", "extreme", "negative"),
        unbatched=False,  # places are counted from the first map, so an element alone draws other numbers
        laws=(laws.Adjoint(),),
        large=(LARGE,) if dims == 2 else (),
        saved_bytes=_codes_bytes,
        registered=registered,
    )


# ---- mutants -----------------------------------------------------------------------------------------------------


class Draw:
    """A random pooling over two axes in plain PyTorch, done right; each mutant does one thing wrong."""

    def __init__(self, **wrong: Callable[..., Any]) -> None:
        for name, method in wrong.items():
            setattr(self, name, method)

    def __call__(self, x: Tensor, **arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        win = _window(x, 2, arguments)
        codes = self.mark(self.codes(x.detach(), win), x.detach(), win)
        values = self.cut(ops.routing.gather(x, codes, win))
        return values, Switches(codes, win, tuple(x.shape[-2:])).to_indices(), codes

    def words(self, shape: tuple[int, ...]) -> Tensor:
        return counted.words(torch.tensor(SEED), int(np.prod(shape))).reshape(shape)

    def codes(self, x: Tensor, win: geometry.Window) -> Tensor:
        raise NotImplementedError

    def mark(self, codes: Tensor, x: Tensor, win: geometry.Window) -> Tensor:
        return codes

    def cut(self, values: Tensor) -> Tensor:
        return values


class Stochastic(Draw):
    def codes(self, x: Tensor, win: geometry.Window) -> Tensor:
        best, codes = plain.max_pool(x, win.numbers)
        real = torch.float64 if x.dtype == torch.float64 else torch.float32
        return reference.winners(
            self.activations(x), win, self.numbers(self.words(tuple(codes.shape)), real), self.best(best), codes
        ).to(codes.dtype)

    def activations(self, x: Tensor) -> Tensor:
        return x

    def best(self, best: Tensor) -> Tensor:
        return best

    def numbers(self, words: Tensor, dtype: torch.dtype) -> Tensor:
        return counted.uniform(words, dtype)


class Dropout(Draw):
    def codes(self, x: Tensor, win: geometry.Window) -> Tensor:
        kept = self.kept(self.words(tuple(x.shape)))
        codes = self.compete(torch.where(kept, x, self.instead()), win)
        won = plain.max_pool_gather(kept.to(torch.uint8), codes, win.numbers)
        return torch.where(self.has_winner(won > 0), codes, 255 if codes.dtype == torch.uint8 else -1).to(codes.dtype)

    def kept(self, words: Tensor) -> Tensor:
        return words >= counted.threshold(P)

    def compete(self, x: Tensor, win: geometry.Window) -> Tensor:
        return plain.max_pool(x, win.numbers)[1]

    def instead(self) -> float:
        return 0.0

    def has_winner(self, kept: Tensor) -> Tensor:
        return kept


def _elsewhere(shape: tuple[int, ...]) -> Tensor:
    """Words counted with the channels innermost."""
    last = (shape[0], *shape[2:], shape[1])
    return counted.words(torch.tensor(SEED), int(np.prod(shape))).reshape(last).movedim(-1, 1)


def _one_word(shape: tuple[int, ...]) -> Tensor:
    blocks = -(-int(np.prod(shape)) // 32)
    first, _ = counted.threefry(torch.tensor(SEED), torch.arange(32 * blocks))
    return first[: int(np.prod(shape))].reshape(shape)


def _swapped(shape: tuple[int, ...]) -> Tensor:
    seed = (SEED & drawn.MASK) << 32 | SEED >> 32
    return counted.words(torch.tensor(seed - (seed >> 63 << 64)), int(np.prod(shape))).reshape(shape)


def _per_map(shape: tuple[int, ...]) -> Tensor:
    return counted.words(torch.tensor(SEED), int(np.prod(shape[2:]))).reshape(shape[2:]).expand(shape)


def _last_tie(x: Tensor, win: geometry.Window) -> Tensor:
    """Raised a little from cell to cell, so that of equal ones the last is the largest."""
    step = 1e-3 * torch.arange(x[0, 0].numel()).reshape(x.shape[2:])
    return plain.max_pool(x + step.to(x), win.numbers)[1]


WORDS: dict[str, Callable[..., Tensor]] = {
    "places counted with channels innermost": _elsewhere,
    "the first word of each counter alone": _one_word,
    "the seed's halves exchanged": _swapped,
    "the same numbers for every map": _per_map,
}
VALUES = "values_equal_the_loops"


def _mutants(kind: type[Draw], wrong: dict[str, dict[str, Callable[..., Any]]]) -> tuple[Mutant, ...]:
    both = {**{name: {"words": words} for name, words in WORDS.items()}, **wrong}
    return tuple(Mutant(name, kind(**methods), VALUES) for name, methods in both.items())


def _ones(best: Tensor) -> Tensor:
    """As if no window were without an activation."""
    return torch.where(best <= 0, 1, best)


STOCHASTIC_MUTANTS = _mutants(
    Stochastic,
    {
        "the largest": {"numbers": lambda words, dtype: torch.full(words.shape, torch.nan, dtype=dtype)},
        "the first": {"numbers": lambda words, dtype: torch.zeros(words.shape, dtype=dtype)},
        "from the other end": {"numbers": lambda words, dtype: 1 - counted.uniform(words, dtype)},
        "the low bits": {"numbers": lambda words, dtype: (words & 0xFFFFFF).to(dtype) * 2.0**-24},
        "four bits": {"numbers": lambda words, dtype: (words >> 28).to(dtype) * 2.0**-4},
        "squared activations": {"activations": lambda x: x * x.abs()},
        "absolute activations": {"activations": lambda x: x.abs()},
        "windows without an activation are not drawn": {"best": _ones},
        "the switch counts from 1": {"mark": lambda codes, x, win: torch.where(codes < 200, codes + 1, codes)},
        "values doubled": {"cut": lambda values: values * 2},
    },
)
DROPOUT_MUTANTS = _mutants(
    Dropout,
    {
        "nothing is dropped": {"kept": lambda words: words >= 0},
        "the others are dropped": {"kept": lambda words: words < counted.threshold(P)},
        "another probability": {"kept": lambda words: words >= counted.threshold(P - 0.1)},
        "dropped cells do not compete": {"instead": lambda: -torch.inf},
        "dropped cells win": {"instead": lambda: torch.inf},
        "a dropped winner keeps its switch": {"has_winner": lambda kept: torch.ones_like(kept)},
        "scaled up": {"cut": lambda values: values / (1 - P)},
        "of ties the last": {"compete": _last_tie},
        "the switch of the whole map": {"compete": lambda x, win: plain.max_pool(x, win.numbers)[1] * 0},
    },
)


def few(operator: Operator, mutants: tuple[Mutant, ...]) -> Operator:
    """The declaration with the cases that mutants are tried on."""
    return replace(
        operator,
        cases=tuple(c for c in operator.cases if c.small or c.name == "one cell, padded"),
        dtypes=(torch.float32,),
        gradient_dtypes=(torch.float32,),
        large=(),
        mutants=mutants,
    )
