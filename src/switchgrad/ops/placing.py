"""Unpooling by switches in one operator, for devices whose kernel needs no indices to do it.

Elsewhere switches become indices, and `unpooling` puts values there; so does the backward, at every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Window
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.layout import empty_in_layout_of, in_layout_of
from switchgrad.ops.routing import is_transformed, is_watched
from switchgrad.ops.unpooling import pick


def has_place(values: Tensor) -> bool:
    """Whether the operator is worth calling: on CUDA, where neither the compiler nor a transform looks on."""
    return values.is_cuda and not torch.compiler.is_compiling() and not is_transformed()


def place(values: Tensor, codes: Tensor, input_size: tuple[int, ...], window: Window) -> Tensor:
    """Each value at its window's winner, 0 elsewhere; of several in one cell the last in row-major order stays."""
    if is_watched(values):
        return _Place.apply(values, codes, input_size, window)
    return torch.ops.switchgrad.max_pool_place(values, codes, list(input_size), window.numbers)


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore
        ctx: Any, values: Tensor, codes: Tensor, input_size: tuple[int, ...], window: Window
    ) -> Tensor:
        ctx.input_size, ctx.window = input_size, window
        ctx.save_for_backward(codes)
        return torch.ops.switchgrad.max_pool_place(values, codes, list(input_size), window.numbers)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        (codes,) = ctx.saved_tensors
        indices = torch.ops.switchgrad.max_pool_indices(codes, list(ctx.input_size), ctx.window.numbers)
        return pick(grad, indices, ctx.input_size), None, None, None


def _max_pool_place(pooled: Tensor, codes: Tensor, input_size: Sequence[int], window: Sequence[int]) -> Tensor:
    indices = torch.ops.switchgrad.max_pool_indices(codes, input_size, window)
    return in_layout_of(codes, torch.ops.switchgrad.max_unpool(pooled, indices, input_size))


def _place_shape(pooled: Tensor, codes: Tensor, input_size: Sequence[int], *_: Any) -> Tensor:
    return empty_in_layout_of(codes, (*codes.shape[: -len(input_size)], *input_size), pooled.dtype)


LIBRARY.impl("max_pool_place", _max_pool_place, "CompositeExplicitAutograd")
torch.library.register_fake("switchgrad::max_pool_place", _place_shape, lib=LIBRARY)
