"""The package's own reference, in plain PyTorch, is held to the loops as the kernels are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import conform
from declarations.max_pool import max_pool, max_unpool
from harness.compare import require_same
from switchgrad import geometry
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool import reference

CHECKS = (
    "values_equal_the_loops",
    "values_equal_the_peer",
    "inputs_stay_as_they_were",
    "the_batch_may_be_missing",
    "gradients_equal_the_loops",
    "gradients_equal_the_peer",
)


class _Reference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: geometry.Window) -> tuple[Tensor, Tensor]:
        values, codes = reference.max_pool(x, window.numbers)
        ctx.mark_non_differentiable(codes)
        ctx.save_for_backward(codes)
        ctx.window, ctx.input_size = window, x.shape[-window.dims :]
        return values, codes

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None]:
        return reference.max_pool_route(grad, ctx.saved_tensors[0], ctx.input_size, ctx.window.numbers), None


def _pool(dims: int) -> Callable[..., tuple[Tensor, ...]]:
    def function(x: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
        size = x.shape[-dims:]
        window = geometry.window(dims, **arguments, input_size=size)
        values, codes = _Reference.apply(x, window)
        return values, reference.max_pool_indices(codes, size, window.numbers), codes

    return function


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", CHECKS)
def test_reference_of_pooling(dims: int, name: str) -> None:
    operator = max_pool(dims)
    narrow = tuple(case for case in operator.cases if " cells in a window" not in case.name)
    conform.check(conform.stand_in(replace(operator, cases=narrow), "reference", _pool(dims)), [name])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_reference_of_unpooling(dims: int) -> None:
    def unpool(values: Tensor, indices: Tensor, *, output_size: tuple[int, ...], **_: Any) -> Tensor:
        put = reference.max_unpool(values, indices, output_size)
        return in_layout_of(values, put)  # the operator writes row by row, the function follows its values

    conform.check(conform.stand_in(max_unpool(dims), "reference", unpool), CHECKS[:4])


def test_reference_gathers_what_the_indices_name() -> None:
    window = geometry.window(2, 3, 2, 1).numbers
    x = torch.randn(2, 3, 7, 8)
    _, codes = reference.max_pool(torch.randn(2, 3, 7, 8), window)
    indices = reference.max_pool_indices(codes, (7, 8), window)
    wanted = x.flatten(2).gather(2, indices.flatten(2)).reshape(indices.shape)
    require_same(reference.max_pool_gather(x, codes, window), wanted, "gather")
