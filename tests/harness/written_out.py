"""One declaration of a written-out layer, held to PyTorch's autograd, to finite differences and to its own promises.

Everything is double precision on the CPU. Errors are relative to the largest number of the peer.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EXACT = 1e-12  # of the scale: what rounding leaves between two right ways of summing
NUDGE, SMOOTH = 1e-5, 1e-7  # central differences: the step, and what its square and rounding leave


@dataclass(frozen=True)
class Written:
    """A written-out layer, its arguments, and PyTorch's own way to the same output.

    ``shapes``: one normal sample an argument; ``arguments(generator)`` instead where that will not do.
    ``kink``: the arguments sit where the layer has no derivative, so no differences are taken.
    ``batched``: the arguments with one entry an example, none where a batch of none means nothing.
    """

    name: str
    layer: Any
    peer: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...] = ()
    arguments: Callable[[torch.Generator], tuple[Tensor, ...]] | None = None
    kink: bool = False
    batched: tuple[int, ...] = (0,)

    def sample(self) -> tuple[Tensor, ...]:
        """The arguments; they depend on the name alone."""
        generator = seeded(self.name)
        if self.arguments:
            return self.arguments(generator)
        return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in self.shapes)


def seeded(*names: object) -> torch.Generator:
    """A generator whose numbers depend on the names alone."""
    return torch.Generator().manual_seed(zlib.crc32(repr(names).encode()))


def normal_like(x: Tensor, *names: object) -> Tensor:
    """Normal numbers of the shape of ``x``."""
    return torch.randn(x.shape, generator=seeded(*names), dtype=torch.float64)


def close(ours: Tensor, wanted: Tensor, what: str, tolerance: float = EXACT) -> None:
    """Fail unless shape and dtype agree and no number is further off than ``tolerance`` of the largest."""
    assert ours.shape == wanted.shape, f"{what}: shape {tuple(ours.shape)}, wanted {tuple(wanted.shape)}"
    assert ours.dtype == wanted.dtype, f"{what}: {ours.dtype}, wanted {wanted.dtype}"
    if wanted.numel() == 0:
        return
    scale = max(float(wanted.detach().abs().max()), 1e-300)
    error = float((ours.detach() - wanted.detach()).abs().max()) / scale
    assert error <= tolerance, f"{what}: off by {error:.1e} of the largest number"  # false for NaN too


def peer_gradients(case: Written, arguments: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """What PyTorch makes of the arguments: the output, a delta for it, and autograd's gradient of each argument."""
    watched = [a.clone().requires_grad_(a.dtype.is_floating_point) for a in arguments]
    y = case.peer(*watched)
    delta = normal_like(y, case.name, "delta")
    learning = [w for w in watched if w.requires_grad]
    found = iter(torch.autograd.grad(y, learning, delta, allow_unused=True))
    return y.detach(), delta, [next(found) if w.requires_grad else None for w in watched]


def check_values(case: Written) -> None:
    """The output is PyTorch's."""
    arguments = case.sample()
    close(case.layer.forward(*arguments)[0], peer_gradients(case, arguments)[0], "output")


def check_gradients(case: Written) -> None:
    """The backward is PyTorch's autograd's, one gradient for each argument, in order."""
    arguments = case.sample()
    _, delta, wanted = peer_gradients(case, arguments)
    ours = case.layer.backward(delta, case.layer.forward(*arguments)[1])
    assert len(ours) == len(arguments), f"{len(ours)} gradients for {len(arguments)} arguments"
    for i, (mine, theirs) in enumerate(zip(ours, wanted, strict=True)):
        if mine is not None:
            close(mine, torch.zeros_like(arguments[i]) if theirs is None else theirs, f"gradient {i}")
    assert ours[0] is not None, "a layer passes the gradient on to its input"


def check_differences(case: Written) -> None:
    """The backward is the slope of our own forward, in three directions of each argument."""
    if case.kink:
        return
    arguments = case.sample()
    y, kept = case.layer.forward(*arguments)
    delta = normal_like(y, case.name, "delta")
    for i, gradient in enumerate(case.layer.backward(delta, kept)):
        assert gradient is None or gradient.shape == arguments[i].shape, f"gradient {i} is not of its argument's shape"
        for way in range(3 if gradient is not None else 0):
            direction = normal_like(arguments[i], case.name, i, way)
            up, down = (
                case.layer.forward(*arguments[:i], arguments[i] + step * direction, *arguments[i + 1 :])[0]
                for step in (NUDGE, -NUDGE)
            )
            slope = (delta * (up - down)).sum() / (2 * NUDGE)
            found = (gradient * direction).sum()
            scale = (gradient * direction).abs().sum() + (delta * y).abs().sum()
            error = float((found - slope).abs() / scale)
            assert error <= SMOOTH, f"argument {i}: slope {slope:.6g}, backward says {found:.6g}"


def check_linear_in_delta(case: Written) -> None:
    """The backward of a sum is the sum of the backwards, and of nothing it is nothing."""
    y, kept = case.layer.forward(*case.sample())
    one, two = (normal_like(y, case.name, which) for which in ("one", "two"))
    parts = zip(*(case.layer.backward(d, kept) for d in (one, two, 3 * one - two, 0 * one)), strict=True)
    for i, (first, second, both, none) in enumerate(parts):
        if first is not None:
            close(both, 3 * first - second, f"gradient {i}", 10 * EXACT)
            assert torch.equal(none.abs(), torch.zeros_like(first)), f"gradient {i} of no delta is not 0"


def check_manners(case: Written) -> None:
    """Arguments stay as they were, nothing is on a tape, float32 stays float32, and a batch of none works."""
    arguments = case.sample()
    before = [a.clone() for a in arguments]
    y, kept = case.layer.forward(*arguments)
    delta = torch.ones_like(y)
    gradients = case.layer.backward(delta, kept)
    assert not any(t.requires_grad for t in (y, *(g for g in gradients if g is not None)))
    assert all(map(torch.equal, arguments, before)), "an argument was changed"
    assert torch.equal(delta, torch.ones_like(y)), "delta was changed"
    single = [a.float() if a.dtype.is_floating_point else a for a in arguments]
    y, kept = case.layer.forward(*single)
    found = case.layer.backward(torch.ones_like(y), kept)
    assert {t.dtype for t in (y, *(g for g in found if g is not None))} == {torch.float32}
    if case.batched:
        _check_batch_of_none(case, arguments)


def _check_batch_of_none(case: Written, arguments: tuple[Tensor, ...]) -> None:
    whole, _ = case.layer.forward(*arguments)
    size = len(arguments[0])
    none = [a[:0] if i in case.batched else a for i, a in enumerate(arguments)]
    y, kept = case.layer.forward(*none)
    assert y.shape == (0, *whole.shape[1:]), f"a batch of none gives {tuple(y.shape)}, one of {size} {whole.shape}"
    for argument, gradient in zip(none, case.layer.backward(y, kept), strict=True):
        if gradient is not None:
            assert torch.equal(gradient, torch.zeros_like(argument))


CHECKS: dict[str, Callable[[Written], None]] = {
    "values": check_values,
    "gradients": check_gradients,
    "differences": check_differences,
    "linear in delta": check_linear_in_delta,
    "manners": check_manners,
}
