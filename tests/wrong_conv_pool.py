"""Convolution, ReLU and max pooling in plain PyTorch, done right and with one thing wrong each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import loops
from declarations.relu_max_pool import Rectified
from harness.declaration import Mutant
from right_pooling import Pooling


class _Run(torch.autograd.Function):
    """``apply(method, filters, along of the pooling, x, weight, bias)``, forward and backward by the method's rules."""

    @staticmethod
    def forward(
        ctx: Any, method: ConvPooling, filters: Any, pool: Any, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        z = method.convolve(x, weight, bias, filters)
        values, codes, indices = method.pooling.compete(z.flatten(-2), loops.axes(tuple(z.shape[-2:]), **pool))
        ctx.method, ctx.filters, ctx.size, ctx.has_bias = method, filters, z.shape, bias is not None
        ctx.save_for_backward(x, weight, indices, values)
        ctx.mark_non_differentiable(indices, codes)
        return method.finish(values, bias), indices, codes

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, indices, values = ctx.saved_tensors
        sent = torch.where(indices < 0, 0, grad)
        dz = ctx.method.send(sent.flatten(-2), indices.flatten(-2), ctx.size, values.flatten(-2), grad.flatten(-2))
        dx = ctx.method.to_input(dz, x, weight, ctx.filters)
        dw = ctx.method.to_weight(dz, x, weight, ctx.filters)
        return None, None, None, dx, dw, ctx.method.to_bias(dz, grad) if ctx.has_bias else None


class ConvPooling:
    """The operator done right; every decision is a method."""

    pooling: Pooling = Rectified()

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, **arguments: Any) -> tuple[Tensor, ...]:
        filters, pool = loops.apart(arguments)
        batched = x if x.dim() == 4 else x[None]
        outputs = _Run.apply(self, filters, pool, batched, weight, bias)
        return outputs if x.dim() == 4 else tuple(t[0] for t in outputs)

    def along(self, x: Tensor, weight: Tensor, filters: Any) -> list[loops.Axis]:
        return loops.axes(tuple(x.shape[-2:]), tuple(weight.shape[-2:]), **{"stride": 1, **filters})

    def pad(self, x: Tensor, along: list[loops.Axis]) -> Tensor:
        return F.pad(x, (along[1].begin, along[1].end, along[0].begin, along[0].end))

    def tap(self, weight: Tensor, r: int, s: int) -> Tensor:
        return weight[:, :, r, s]

    def views(self, seen: Tensor, weight: Tensor, along: list[loops.Axis]) -> Iterator[tuple[int, int, Tensor]]:
        """For each tap, what it sees."""
        rows, columns = (len(axis.starts()) for axis in along)
        for r in range(weight.shape[2]):
            for s in range(weight.shape[3]):
                high, wide = seen[:, :, r :: along[0].stride], along[1].stride
                yield r, s, high[:, :, :rows, s::wide][..., :columns]

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, filters: Any) -> Tensor:
        along = self.along(x, weight, filters)
        z = sum(self.mix(view, self.tap(weight, r, s)) for r, s, view in self.views(self.pad(x, along), weight, along))
        return self.begin(z, bias)

    def mix(self, view: Tensor, tap: Tensor) -> Tensor:
        return torch.einsum("nchw,kc->nkhw", view, tap)

    def begin(self, z: Tensor, bias: Tensor | None) -> Tensor:
        return z if bias is None else z + bias[:, None, None]

    def finish(self, values: Tensor, bias: Tensor | None) -> Tensor:
        return values

    def send(self, sent: Tensor, indices: Tensor, size: torch.Size, values: Tensor, grad: Tensor) -> Tensor:
        """The gradient of the convolution's outputs."""
        return torch.zeros(size).flatten(-2).scatter_add(-1, indices.clamp_min(0), sent).reshape(size)

    def to_input(self, dz: Tensor, x: Tensor, weight: Tensor, filters: Any) -> Tensor:
        along = self.along(x, weight, filters)
        seen = torch.zeros_like(self.pad(x, along))
        for r, s, view in self.views(seen, weight, along):
            view += torch.einsum("nkhw,kc->nchw", dz, self.back_tap(weight, r, s))
        top, left = along[0].begin, along[1].begin
        return seen[..., top : top + x.shape[2], left : left + x.shape[3]]

    def back_tap(self, weight: Tensor, r: int, s: int) -> Tensor:
        return weight[:, :, r, s]

    def to_weight(self, dz: Tensor, x: Tensor, weight: Tensor, filters: Any) -> Tensor:
        along = self.along(x, weight, filters)
        result = torch.zeros_like(weight)
        for r, s, view in self.views(self.pad(x, along), weight, along):
            result[:, :, r, s] = torch.einsum("nkhw,nchw->kc", dz, view)
        return result

    def to_bias(self, dz: Tensor, grad: Tensor) -> Tensor:
        return dz.sum((0, 2, 3))


# ---- one thing wrong ---------------------------------------------------------------------------------------------

LOOPS, GRADIENT = "values_equal_the_loops", "gradients_equal_the_loops"
MUTANTS: list[Mutant] = []


def mutant(name: str, killed_by: str) -> Callable[[type[ConvPooling]], type[ConvPooling]]:
    """Adds a variant to the list."""

    def add(variant: type[ConvPooling]) -> type[ConvPooling]:
        MUTANTS.append(Mutant(name, variant(), killed_by))
        return variant

    return add


@mutant("border off by one", LOOPS)
class Border(ConvPooling):
    def pad(self, x: Tensor, along: list[loops.Axis]) -> Tensor:
        return super().pad(x, along).roll(1, -1)


@mutant("padding replicated", LOOPS)
class Replicated(ConvPooling):
    def pad(self, x: Tensor, along: list[loops.Axis]) -> Tensor:
        sides = (along[1].begin, along[1].end, along[0].begin, along[0].end)
        return F.pad(x, sides, mode="replicate") if len(x) else super().pad(x, along)


@mutant("rows and columns of the filter swapped", LOOPS)
class Transposed(ConvPooling):
    def tap(self, weight: Tensor, r: int, s: int) -> Tensor:
        flat = r * weight.shape[3] + s
        return weight.transpose(2, 3).flatten(2)[:, :, flat]


@mutant("filter turned", LOOPS)
class Turned(ConvPooling):
    def tap(self, weight: Tensor, r: int, s: int) -> Tensor:
        return weight.flip(2, 3)[:, :, r, s]


@mutant("channels in the wrong order", LOOPS)
class Channels(ConvPooling):
    def tap(self, weight: Tensor, r: int, s: int) -> Tensor:
        return weight[:, :, r, s].flip(1)


@mutant("bias forgotten", LOOPS)
class NoBias(ConvPooling):
    def begin(self, z: Tensor, bias: Tensor | None) -> Tensor:
        return z


@mutant("bias after the ReLU", LOOPS)
class BiasLate(NoBias):
    def finish(self, values: Tensor, bias: Tensor | None) -> Tensor:
        return values if bias is None else values + bias[:, None, None]


@mutant("last row of windows dropped", LOOPS)
class LastRow(ConvPooling):
    def finish(self, values: Tensor, bias: Tensor | None) -> Tensor:
        return torch.cat([values[..., :-1, :], torch.zeros_like(values[..., -1:, :])], -2)


class _LastTie(Rectified):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return (x >= best) | (x != x) | first


@mutant("a tie goes to the last", LOOPS)
class Tie(ConvPooling):
    pooling = _LastTie()


class _NoReLU(Rectified):
    def dead(self, best: Tensor, indices: Tensor) -> Tensor:
        return torch.zeros_like(best, dtype=torch.bool)


@mutant("no ReLU", LOOPS)
class NoReLU(ConvPooling):
    pooling = _NoReLU()


@mutant("values depend on the number of threads", "threads_do_not_matter")
class Racy(ConvPooling):
    def mix(self, view: Tensor, tap: Tensor) -> Tensor:
        parts = zip(view.chunk(torch.get_num_threads(), 1), tap.chunk(torch.get_num_threads(), 1), strict=True)
        return sum((torch.einsum("nchw,kc->nkhw", *part) for part in parts), torch.zeros(()))


@mutant("a winner forgotten", GRADIENT)
class Forgotten(ConvPooling):
    def send(self, sent: Tensor, indices: Tensor, size: torch.Size, values: Tensor, grad: Tensor) -> Tensor:
        sent[..., -1] = 0
        return super().send(sent, indices, size, values, grad)


@mutant("a dead window sends its gradient", GRADIENT)
class Dead(ConvPooling):
    def send(self, sent: Tensor, indices: Tensor, size: torch.Size, values: Tensor, grad: Tensor) -> Tensor:
        return super().send(grad, indices, size, values, grad)


@mutant("overlap counted twice", GRADIENT)
class Twice(ConvPooling):
    def send(self, sent: Tensor, indices: Tensor, size: torch.Size, values: Tensor, grad: Tensor) -> Tensor:
        once = super().send(sent, indices, size, values, grad)
        wins = super().send((indices >= 0).to(sent.dtype), indices, size, values, grad)
        return torch.where(wins > 1, 2 * once, once)


@mutant("overlap not summed", GRADIENT)
class NotSummed(ConvPooling):
    def send(self, sent: Tensor, indices: Tensor, size: torch.Size, values: Tensor, grad: Tensor) -> Tensor:
        seen_before = (indices[..., :, None] == indices[..., None, :]).tril(-1).any(-1)
        return super().send(torch.where(seen_before, 0, sent), indices, size, values, grad)


@mutant("the ReLU passes gradient at 0", GRADIENT)
class AtZero(ConvPooling):
    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, filters: Any) -> Tensor:
        self.outputs = super().convolve(x, weight, bias, filters)
        return self.outputs

    def send(self, sent: Tensor, indices: Tensor, size: torch.Size, values: Tensor, grad: Tensor) -> Tensor:
        dz = super().send(sent, indices, size, values, grad)
        return dz + torch.where(self.outputs == 0, grad.mean(), 0)


@mutant("the bias counts dead windows", GRADIENT)
class BiasOfDead(ConvPooling):
    def to_bias(self, dz: Tensor, grad: Tensor) -> Tensor:
        return grad.sum((0, 2, 3))


@mutant("the input's gradient ignores the stride", GRADIENT)
class Stride(ConvPooling):
    def to_input(self, dz: Tensor, x: Tensor, weight: Tensor, filters: Any) -> Tensor:
        dense = {**filters, "stride": 1}
        along = self.along(x, weight, dense)
        room = F.pad(dz, (0, len(along[1].starts()) - dz.shape[3], 0, len(along[0].starts()) - dz.shape[2]))
        return super().to_input(room, x, weight, dense)


@mutant("the input's gradient goes through the turned filter", GRADIENT)
class BackTurned(ConvPooling):
    def back_tap(self, weight: Tensor, r: int, s: int) -> Tensor:
        return weight.flip(2, 3)[:, :, r, s]


@mutant("the weights' gradient is of the first image alone", GRADIENT)
class FirstImage(ConvPooling):
    def to_weight(self, dz: Tensor, x: Tensor, weight: Tensor, filters: Any) -> Tensor:
        return super().to_weight(dz[:1], x[:1], weight, filters)


@mutant("the weights' gradient depends on the number of threads", "gradients_are_deterministic")
class RacyGradient(ConvPooling):
    def to_weight(self, dz: Tensor, x: Tensor, weight: Tensor, filters: Any) -> Tensor:
        count = torch.get_num_threads()
        total = torch.zeros_like(weight)
        for i in range(count):
            one = torch.zeros_like(dz)
            one[..., i::count] = dz[..., i::count]
            total += super().to_weight(one, x, weight, filters)
        return total
