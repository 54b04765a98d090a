"""Unpooling by flat indices: values back to where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.kernels.schema import operator
from switchgrad.ops.checks import in_words
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.linear_maps import lies_channels_last
from switchgrad.ops.routing import Taped, fold, is_transformed, is_watched, recorder, unfold

_max_unpool, _max_unpool_pick = operator("max_unpool"), operator("max_unpool_pick")


def unpool_by_indices(values: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """``values`` at their flat, row-major ``indices`` into each channel of ``output_size``, 0 elsewhere.

    Index -1 means nowhere. Where several indices name one cell the last in row-major order stays (deterministic, on
    every device and for any number of threads), and only that one gets the gradient. An index beyond the output
    raises a `GeometryError` that names it. The layout is that of the values.
    """
    record = recorder(values, _Unpool, _TransformedUnpool)
    if record is not None:
        return record(values, indices, tuple(output_size))
    return _put(values, indices, output_size)


def pick(tensor: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """What ``tensor`` holds at the indices whose values unpooling keeps, 0 for the others. The adjoint of unpooling."""
    dims = len(output_size)
    if is_transformed():
        channels = tensor.flatten(-dims)
        taken = channels.gather(-1, indices.flatten(-dims).clamp_min(0)).reshape(indices.shape)
        return torch.where(_stayed(indices, output_size), taken, 0)
    if is_watched(tensor):
        return _Pick.apply(tensor, indices, tuple(output_size))
    return _max_unpool_pick(tensor, indices, dims)


def _put(values: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """The operator, which writes row by row, and its result in the layout of the values."""
    put = in_words(_max_unpool, values, indices, output_size)
    return in_layout_of(values, put) if lies_channels_last(values, len(output_size)) else put


def _stayed(indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """Which values unpooling keeps: those whose index is neither -1 nor named again later."""
    dims = len(output_size)
    index = indices.flatten(-dims)
    order = torch.arange(1, index.shape[-1] + 1, device=indices.device).expand_as(index)
    marks = order.reshape(indices.shape).contiguous()
    last = unpool_by_indices(marks, indices, output_size).flatten(-dims)
    return ((index >= 0) & (last.gather(-1, index.clamp_min(0)) == order)).reshape(indices.shape)


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, indices: Tensor, output_size: tuple[int, ...]) -> Tensor:  # pyright: ignore
        ctx.output_size = output_size
        ctx.save_for_backward(indices)
        return _max_unpool_pick(tensor, indices, len(output_size))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        return unpool_by_indices(grad, ctx.saved_tensors[0], ctx.output_size), None, None


class _Unpool(Taped):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, output_size: tuple[int, ...]) -> Tensor:  # pyright: ignore
        ctx.output_size, ctx.channels_last = output_size, lies_channels_last(values, len(output_size))
        ctx.save_for_backward(indices)
        return _put(values, indices, output_size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        picked = pick(grad, ctx.saved_tensors[0], ctx.output_size)
        return (picked.movedim(1, -1).contiguous().movedim(-1, 1) if ctx.channels_last else picked), None, None


class _TransformedUnpool(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, indices: Tensor, output_size: tuple[int, ...]) -> Tensor:  # pyright: ignore
        return _put(values, indices, output_size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        values, indices, ctx.output_size = inputs
        ctx.channels_last = lies_channels_last(values, len(ctx.output_size))
        ctx.save_for_backward(indices)
        ctx.save_for_forward(indices)

    backward = _Unpool.backward  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:  # pyright: ignore
        return unpool_by_indices(tangent, ctx.saved_tensors[0], ctx.output_size)

    @staticmethod
    def vmap(  # pyright: ignore
        info: Any, in_dims: Any, values: Tensor, indices: Tensor, output_size: tuple[int, ...]
    ) -> tuple[Tensor, int]:
        size, dims = info.batch_size, len(output_size)
        axes = values.dim() - (in_dims[0] is not None)
        values, indices = (fold(t, dim, size, dims) for t, dim in zip((values, indices), in_dims, strict=False))
        return unfold(unpool_by_indices(values, indices, output_size), size, axes), 0
