"""Lp pooling in one operator and its backward in another, whose kernels do each in one pass.

For the compiler, under a transform and where there is no kernel, powers, sums and roots are steps (`lp_pool`), which
are differentiable at every order and which the compiler fuses by itself; so is the backward of this backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.kernels import native
from switchgrad.kernels.schema import LIBRARY, operator
from switchgrad.ops.avg_pool.reference import wide
from switchgrad.ops.layout import empty_in_layout_of, in_layout_of
from switchgrad.ops.max_pool.reference import cells, flat
from switchgrad.ops.max_pool.registration import max_pool_values_shapes
from switchgrad.ops.routing import is_transformed, is_watched

_LP_POOL, _LP_POOL_SPREAD = operator("lp_pool"), operator("lp_pool_spread")
_PRODUCTS = (0.5, 1.0, 2.0)  # of which the root is one as well
Steps = Callable[[Tensor, float], Tensor]


def has_kernel(input: Tensor, p: float) -> bool:
    """Whether the operator is worth calling: there are kernels, and neither the compiler nor a transform looks on.

    Powers of doubles that are no products and square roots are PyTorch's: it takes them several at a time.
    """
    if torch.compiler.is_compiling() or is_transformed():
        return False
    if input.device.type != "cpu":
        return input.is_cuda
    return native.LIBRARY is not None and (input.dtype != torch.float64 or p in _PRODUCTS)


def norms(input: Tensor, p: float, window: Window, steps: Steps) -> Tensor:
    """The p-norm of each window; ``steps`` does the same with differentiable operators."""
    if is_watched(input):
        return _Norms.apply(input, p, window, steps)
    return _LP_POOL(input, p, window.numbers)


class _Norms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, p: float, window: Window, steps: Steps) -> Tensor:  # pyright: ignore
        values = _LP_POOL(input, p, window.numbers)
        ctx.p, ctx.window, ctx.steps = p, window, steps
        ctx.save_for_backward(input, values)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        input, values = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate the gradient
            again = ctx.steps(input, ctx.p)
            return torch.autograd.grad(again, input, grad, create_graph=True)[0], None, None, None
        spread = _LP_POOL_SPREAD(grad, input, values, ctx.p, ctx.window.numbers)
        return spread, None, None, None


def _lp_pool(input: Tensor, p: float, window: Sequence[int]) -> Tensor:
    win = window_of(window)
    size = input.shape[-win.dims :]
    plane = input.flatten(-win.dims).to(wide(input.dtype)).abs()
    total = plane.new_zeros((*input.shape[: -win.dims], *win.output_size(size)))
    for _, at, inside in cells(size, win, input.device):
        x = plane[..., flat(at, size)]
        total = total + torch.where(inside & (x != 0), x.pow(p), 0)
    return in_layout_of(input, torch.where(total == 0, 0, total.pow(1 / p)).to(input.dtype))


def _lp_pool_spread(pooled: Tensor, input: Tensor, values: Tensor, p: float, window: Sequence[int]) -> Tensor:
    win = window_of(window)
    size = input.shape[-win.dims :]
    exact = wide(input.dtype)
    plane, g, y = input.flatten(-win.dims).to(exact), pooled.to(exact), values.to(exact)
    total = torch.zeros_like(plane)
    for _, at, inside in reversed(list(cells(size, win, input.device))):
        x = plane[..., flat(at, size)]
        share = torch.where(inside & (x != 0) & (y != 0), g * x.sign() * (x.abs() / y).pow(p - 1), 0)
        total = total + torch.zeros_like(total).index_add(-1, flat(at, size).flatten(), share.flatten(-win.dims))
    return in_layout_of(input, total.to(input.dtype).reshape(input.shape))


def _norms_shape(input: Tensor, _: float, window: Sequence[int]) -> Tensor:
    return max_pool_values_shapes(input, window)


def _spread_shape(_: Tensor, input: Tensor, *__: Any) -> Tensor:
    return empty_in_layout_of(input, tuple(input.shape), input.dtype)


for _name, _meaning, _fake in (
    ("lp_pool", _lp_pool, _norms_shape),
    ("lp_pool_spread", _lp_pool_spread, _spread_shape),
):
    LIBRARY.impl(_name, _meaning, "CompositeExplicitAutograd")
    torch.library.register_fake(f"switchgrad::{_name}", _fake, lib=LIBRARY)
