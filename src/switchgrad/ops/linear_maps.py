"""Operators that are linear maps: each is one call up, its adjoint one call down, and every derivative is these two.

The backward of a linear map is its adjoint, the backward of the adjoint is the map, and the forward-mode derivative of
either is itself; nothing of the input is kept but its size and its layout.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from switchgrad.layout import memory_format_of
from switchgrad.ops.routing import Taped, fold, recorder, unfold


class LinearMap(Protocol):
    """What an operator must say of itself; equal maps compare equal, so that compiled code can be used again."""

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        ...

    def up(self, input: Tensor) -> Tensor:
        """The map, by one registered operator."""
        ...

    def down(self, pooled: Tensor, size: tuple[int, ...], channels_last: bool) -> Tensor:
        """Its adjoint, onto an input whose spatial axes have ``size``, by one registered operator."""
        ...


def apply(input: Tensor, linear: LinearMap) -> Tensor:
    """The map, on the autograd tape where somebody watches."""
    record = recorder(input, _Up, _TransformedUp)
    if record is not None:
        return record(input, linear)
    return linear.up(input)


def adjoint(pooled: Tensor, linear: LinearMap, size: tuple[int, ...], channels_last: bool) -> Tensor:
    """The adjoint of the map, on the autograd tape where somebody watches."""
    record = recorder(pooled, _Down, _TransformedDown)
    if record is not None:
        return record(pooled, linear, size, channels_last)
    return linear.down(pooled, size, channels_last)


def lies_channels_last(input: Tensor, dims: int) -> bool:
    """Whether results for ``input``, which has ``dims`` spatial axes, are laid out channels last."""
    if input.is_contiguous() or input.dim() != dims + 2:
        return False
    return memory_format_of(input) != torch.contiguous_format


class _Up(Taped):
    @staticmethod
    def forward(ctx: Any, input: Tensor, linear: LinearMap) -> Tensor:  # pyright: ignore
        ctx.linear, ctx.size = linear, tuple(input.shape[-linear.dims :])
        ctx.channels_last = lies_channels_last(input, linear.dims)
        return linear.up(input)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        return adjoint(grad, ctx.linear, ctx.size, ctx.channels_last), None


class _TransformedUp(torch.autograd.Function):
    @staticmethod
    def forward(input: Tensor, linear: LinearMap) -> Tensor:  # pyright: ignore
        return linear.up(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        input, ctx.linear = inputs
        ctx.size = tuple(input.shape[-ctx.linear.dims :])
        ctx.channels_last = lies_channels_last(input, ctx.linear.dims)

    backward = _Up.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Any) -> Tensor:  # pyright: ignore
        return apply(tangent, ctx.linear)

    @staticmethod
    def vmap(info: Any, in_dims: Any, input: Tensor, linear: LinearMap) -> tuple[Tensor, int]:  # pyright: ignore
        size, axes = info.batch_size, input.dim() - 1
        return unfold(apply(fold(input, in_dims[0], size, linear.dims), linear), size, axes), 0


class _Down(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, pooled: Tensor, linear: LinearMap, size: tuple[int, ...], channels_last: bool
    ) -> Tensor:
        ctx.linear = linear
        return linear.down(pooled, size, channels_last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        return apply(grad, ctx.linear), None, None, None


class _TransformedDown(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        pooled: Tensor, linear: LinearMap, size: tuple[int, ...], channels_last: bool
    ) -> Tensor:
        return linear.down(pooled, size, channels_last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        _, ctx.linear, ctx.size, ctx.channels_last = inputs

    backward = _Down.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return adjoint(tangent, ctx.linear, ctx.size, ctx.channels_last)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, pooled: Tensor, linear: LinearMap, size: tuple[int, ...], channels_last: bool
    ) -> tuple[Tensor, int]:
        count, axes = info.batch_size, pooled.dim() - 1
        folded = fold(pooled, in_dims[0], count, linear.dims)
        return unfold(adjoint(folded, linear, size, channels_last), count, axes), 0
