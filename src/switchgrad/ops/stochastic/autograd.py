"""Random pooling on the autograd tape: once drawn, it goes by its switches as max pooling does."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.ops.max_pool.autograd import MaxPoolWithCodes, TransformedMaxPool
from switchgrad.ops.routing import Taped, recorder, route
from switchgrad.ops.stochastic import registration as registration

Name = Literal["stochastic_pool", "max_pool_dropout"]


def pool_by_words(name: Name, input: Tensor, seed: Tensor, window: Window, *more: float) -> tuple[Tensor, Tensor]:
    """Values and codes of an operator that draws from ``seed``; ``more`` is what else it takes."""
    record = recorder(input, _Drawn, _TransformedDrawn)
    if record is not None:
        return record(input, window, seed, name, more)
    return _call(input, window, seed, name, more)


def _call(input: Tensor, window: Window, seed: Tensor, name: Name, more: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    return getattr(torch.ops.switchgrad, name)(input, seed, *more, window.numbers)


class _Drawn(Taped):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, input: Tensor, window: Window, seed: Tensor, name: Name, more: tuple[float, ...]
    ) -> tuple[Tensor, Tensor]:
        values, codes = _call(input, window, seed, name, more)
        MaxPoolWithCodes.keep(ctx, input, window, codes)
        return values, codes

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, None, None, None, None]:  # pyright: ignore
        if grad is None:
            return None, None, None, None, None
        return route(grad, ctx.saved_tensors[0], ctx.input_size, ctx.window), None, None, None, None


class _TransformedDrawn(torch.autograd.Function):
    """The same with rules for forward mode and vmap, where each example is drawn as if it were alone."""

    @staticmethod
    def forward(  # pyright: ignore
        input: Tensor, window: Window, seed: Tensor, name: Name, more: tuple[float, ...]
    ) -> tuple[Tensor, Tensor]:
        return _call(input, window, seed, name, more)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # pyright: ignore
        TransformedMaxPool.setup_context(ctx, inputs[:2], output)

    backward = _Drawn.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: Any) -> tuple[Tensor | None, None]:  # pyright: ignore
        return TransformedMaxPool.jvp(ctx, tangent, None)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, input: Tensor, window: Window, seed: Tensor, name: Name, more: tuple[float, ...]
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        drawn = [
            pool_by_words(name, _example(input, in_dims[0], i), _example(seed, in_dims[2], i), window, *more)
            for i in range(info.batch_size)
        ]
        values, codes = (torch.stack(list(parts)) for parts in zip(*drawn, strict=True))
        return (values, codes), (0, 0)


def _example(tensor: Tensor, dim: int | None, at: int) -> Tensor:
    return tensor if dim is None else tensor.select(dim, at)
