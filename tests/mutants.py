"""Max pooling with one thing wrong, three dozen times over: what the harness must notice.

Each mutant overrides one method of `right_pooling.Pooling`. That the right one passes the harness is a test as well, so
a mutant dies of its mutation and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

import loops
from harness.declaration import Mutant
from right_pooling import Pooling


class _Once(torch.autograd.Function):
    """A copy, whose backward cannot be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.detach()

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.clone()


class Backward(torch.autograd.Function):
    """Derivatives of one's own making: ``rule(grad, x, indices, values)`` gives the gradient of the flat planes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, indices: Tensor, values: Tensor, rule: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(x, indices, values)
        ctx.rule = rule
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, indices, values = ctx.saved_tensors
        return ctx.rule(grad, x, indices, values).reshape(x.shape).to(x.dtype), None, None, None


def _add(grad: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    """The right backward: each number added at its index, where there is one."""
    sent = torch.where(indices < 0, 0, grad).flatten(-2)
    return torch.zeros_like(x.flatten(-2)).scatter_add(-1, indices.clamp_min(0).flatten(-2), sent)


# ---- one thing wrong ---------------------------------------------------------------------------------------------

LOOPS, PEER = "values_equal_the_loops", "values_equal_the_peer"
GRADIENT, GRADIENT_LAYOUT = "gradients_equal_the_loops", "gradients_follow_the_layout"
MUTANTS: list[Mutant] = []


def mutant(name: str, killed_by: str = LOOPS) -> Callable[[type[Pooling]], type[Pooling]]:
    """Adds a variant of `Pooling` to the list."""

    def add(variant: type[Pooling]) -> type[Pooling]:
        MUTANTS.append(Mutant(name, variant(), killed_by))
        return variant

    return add


def _backward(name: str, killed_by: str = GRADIENT) -> Callable[[Callable[..., Tensor]], None]:
    """Adds a variant whose backward is a function of (grad, x, indices, values)."""

    def add(rule: Callable[..., Tensor]) -> None:
        @mutant(name, killed_by)
        class _(Pooling):
            def derive(self, x: Tensor, indices: Tensor, values: Tensor, along: list[loops.Axis]) -> Tensor:
                return Backward.apply(x, indices, values, rule)

    return add


@mutant("the last cell wins")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return torch.ones_like(first)


@mutant("padding is 0 and may win")
class _(Pooling):
    def seen(self, x: Tensor, inside: Tensor) -> Tensor:
        return torch.where(inside, x, 0).to(x.dtype)

    def inside(self, row: Tensor, column: Tensor, along: list[loops.Axis]) -> Tensor:
        return torch.ones_like(row * column, dtype=torch.bool)


@mutant("the last of equals wins")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return (x >= best) | (x != x) | first


@mutant("the first NaN wins")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return (x > best) | ((x != x) & (best == best)) | first


@mutant("NaN is passed over")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return (x > best) | first


@mutant("+0 beats -0")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        zeros = (x == 0) & (best == 0) & best.signbit() & ~x.signbit()
        return super().beats(x, best, first) | zeros


@mutant("starts at -FLT_MAX")
class _(Pooling):
    def lowest(self, dtype: torch.dtype) -> float:
        return torch.finfo(dtype).min if dtype.is_floating_point else torch.iinfo(dtype).min

    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return (x > best) | (x != x)


@mutant("a window of -inf has no winner")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return (x > best) | (x != x)


@mutant("unsigned bytes are read as signed")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        if x.dtype != torch.uint8:
            return super().beats(x, best, first)
        return (x.view(torch.int8) > best.view(torch.int8)) | first


@mutant("integers are compared as float32")
class _(Pooling):
    def beats(self, x: Tensor, best: Tensor, first: Tensor) -> Tensor:
        return super().beats(x, best, first) if x.is_floating_point() else (x.float() > best.float()) | first


@mutant("the index is transposed")
class _(Pooling):
    def index(self, row: Tensor, column: Tensor, along: list[loops.Axis]) -> Tensor:
        return column * along[0].size + row


@mutant("the index counts the padding")
class _(Pooling):
    def index(self, row: Tensor, column: Tensor, along: list[loops.Axis]) -> Tensor:
        height, width = along
        return (row + height.begin) * (width.size + width.begin + width.end) + column + width.begin


@mutant("the code swaps rows and columns of the window")
class _(Pooling):
    def code(self, r: int, c: int, along: list[loops.Axis]) -> int:
        return c * along[0].kernel + r


def _changed(name: str, change: Callable[[loops.Axis], dict[str, Any]], killed_by: str = LOOPS) -> None:
    """Adds a variant that slides another window along each axis."""

    @mutant(name, killed_by)
    class _(Pooling):
        def axes(self, size: torch.Size, **arguments: Any) -> list[loops.Axis]:
            return [loops.Axis(**(vars(axis) | change(axis))) for axis in super().axes(size, **arguments)]


_changed("the stride is one too long", lambda axis: {"stride": axis.stride + 1})
_changed("dilation is ignored", lambda axis: {"dilation": 1})
_changed("padding begins where it ends", lambda axis: {"begin": axis.end, "end": axis.begin})
_changed("ceil_mode is ignored", lambda axis: {"ceil": False})
_changed("always ceil_mode", lambda axis: {"ceil": True})


@mutant("ceil_mode keeps a window in the padding at the end")
class _(Pooling):
    def starts(self, axis: loops.Axis) -> list[int]:
        room = axis.size + axis.begin + axis.end - (axis.kernel - 1) * axis.dilation - 1
        places = -(-room // axis.stride) + 1 if axis.ceil else room // axis.stride + 1
        return [place * axis.stride - axis.begin for place in range(places)]


@mutant("an odd last column is dropped")
class _(Pooling):
    def inside(self, row: Tensor, column: Tensor, along: list[loops.Axis]) -> Tensor:
        return super().inside(row, column, along) & (column < max(1, along[1].size // 2 * 2))


@mutant("channels last is read as planar", PEER)
class _(Pooling):
    def read(self, x: Tensor) -> Tensor:
        dense = x if suggest_memory_format(x) != torch.contiguous_format else x.contiguous()
        return torch.as_strided(dense, x.shape, torch.empty(x.shape).stride()).flatten(-2)


@mutant("the result is always planar", PEER)
class _(Pooling):
    def lay_out(self, x: Tensor, result: Tensor) -> Tensor:
        return result.contiguous()


@mutant("a second thread spoils the last row", "threads_do_not_matter")
class _(Pooling):
    def compete(self, planes: Tensor, along: list[loops.Axis]) -> tuple[Tensor, Tensor, Tensor]:
        best, codes, indices = super().compete(planes, along)
        if torch.get_num_threads() > 1:
            best[..., -1, :] = best[..., 0, :]
        return best, codes, indices


@mutant("the input is written to", PEER)
class _(Pooling):
    def read(self, x: Tensor) -> Tensor:
        before = x.flatten(-2).clone()
        x.detach().flatten(-2)[..., :1] = 1
        return before


@mutant("an empty batch is refused", "the_batch_may_be_empty")
class _(Pooling):
    def read(self, x: Tensor) -> Tensor:
        return super().read(x[: max(1, len(x))].reshape(max(1, len(x)), *x.shape[1:]))


@mutant("every winner of a tie gets the gradient", GRADIENT)
class _(Pooling):
    def derive(self, x: Tensor, indices: Tensor, values: Tensor, along: list[loops.Axis]) -> Tensor:
        cells = [torch.where(inside & (c == values), c, 0) for _, _, inside, c in self.cells(x.flatten(-2), along)]
        return torch.stack(cells).sum(0).to(x.dtype)


@mutant("the gradient is always planar", GRADIENT_LAYOUT)
class _(Pooling):
    def enter(self, x: Tensor) -> Tensor:
        return x.view_as(x)


@mutant("the backward has no backward", "empty_batches_have_derivatives")
class _(Pooling):
    def derive(self, x: Tensor, indices: Tensor, values: Tensor, along: list[loops.Axis]) -> Tensor:
        return super().derive(_Once.apply(x), indices, values, along)


@_backward("where windows overlap, the last one overwrites")
def _(grad: Tensor, x: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    planes = torch.zeros_like(x.flatten(-2))
    for place, sent in zip(indices.flatten(-2).unbind(-1), grad.flatten(-2).unbind(-1), strict=True):
        kept = torch.where(place < 0, planes.gather(-1, place.clamp_min(0)[..., None])[..., 0], sent)
        planes = planes.scatter(-1, place.clamp_min(0)[..., None], kept[..., None])
    return planes


@_backward("the gradient counts double at the border")
def _(grad: Tensor, x: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    planes = _add(grad, x, indices).reshape(x.shape)
    planes[..., -1] *= 2
    return planes


@_backward("the gradient follows the transposed switch")
def _(grad: Tensor, x: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    swapped = torch.where(indices < 0, -1, indices % width * height + indices.div(width, rounding_mode="floor"))
    return _add(grad, x, swapped)


@_backward("the gradient that is sent is read as if it were compact", GRADIENT_LAYOUT)
def _(grad: Tensor, x: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    return _add(torch.as_strided(grad, grad.shape, torch.empty(grad.shape).stride()), x, indices)


@_backward("a second thread adds up in another order", "gradients_are_deterministic")
def _(grad: Tensor, x: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    if torch.get_num_threads() == 1:
        return _add(grad, x, indices)
    return _add(grad.flip(-1), x, indices.flip(-1))
