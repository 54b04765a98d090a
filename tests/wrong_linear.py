"""A fully connected layer with a ReLU written out in plain PyTorch, done right and with one thing wrong each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.declaration import Mutant


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.layer, ctx.has_bias = layer, bias is not None
        rows = x.reshape(-1, x.shape[-1])
        sums = layer.sums(rows, weight)
        y = layer.act(sums if bias is None else layer.add(sums, bias))
        ctx.save_for_backward(x, weight, y)
        return y.reshape(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, y), layer = ctx.saved_tensors, ctx.layer
        sent = layer.passed(grad.reshape(y.shape), y)
        dx = layer.to_input(sent, weight).reshape(x.shape)
        dw = layer.to_weight(sent, x.reshape(-1, x.shape[-1]))
        return None, dx, dw, layer.to_bias(sent) if ctx.has_bias else None


class Layer:
    """The operator done right; every decision is a method."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return _Run.apply(self, x, weight, bias)

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.mT

    def add(self, sums: Tensor, bias: Tensor) -> Tensor:
        return sums + bias

    def act(self, values: Tensor) -> Tensor:
        return values.relu()

    def passed(self, grad: Tensor, y: Tensor) -> Tensor:
        return torch.where(y <= 0, 0, grad)

    def to_input(self, sent: Tensor, weight: Tensor) -> Tensor:
        return sent @ weight

    def to_weight(self, sent: Tensor, x: Tensor) -> Tensor:
        return sent.mT @ x

    def to_bias(self, sent: Tensor) -> Tensor:
        return sent.sum(0)


# ---- one thing wrong ---------------------------------------------------------------------------------------------

LOOPS, GRADIENT = "values_equal_the_loops", "gradients_equal_the_loops"
MUTANTS: list[Mutant] = []


def mutant(name: str, killed_by: str) -> Callable[[type[Layer]], type[Layer]]:
    """Adds a variant to the list."""

    def add(variant: type[Layer]) -> type[Layer]:
        MUTANTS.append(Mutant(name, variant(), killed_by))
        return variant

    return add


@mutant("the last input beyond whole vectors is forgotten", LOOPS)
class _(Layer):
    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        whole = x.shape[1] // 16 * 16
        return x[:, :whole] @ weight[:, :whole].mT


@mutant("the second block of inputs replaces the first", LOOPS)
class _(Layer):
    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        start = (x.shape[1] - 1) // 128 * 128
        return x[:, start:] @ weight[:, start:].mT


@mutant("rows beyond a vector are those of the first", LOOPS)
class _(Layer):
    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        return super().sums(x[torch.arange(len(x)) % 16], weight)


@mutant("the bias comes behind the ReLU", LOOPS)
class _(Layer):
    def act(self, values: Tensor) -> Tensor:
        return values

    def add(self, sums: Tensor, bias: Tensor) -> Tensor:
        return sums.relu() + bias


@mutant("the bias belongs to rows", LOOPS)
class _(Layer):
    def add(self, sums: Tensor, bias: Tensor) -> Tensor:
        return sums + bias[torch.arange(len(sums)) % len(bias)][:, None]


@mutant("the ReLU passes the size of what is negative", LOOPS)
class _(Layer):
    def act(self, values: Tensor) -> Tensor:
        return values.abs()


@mutant("the gradient passes where the output is 0", GRADIENT)
class _(Layer):
    def passed(self, grad: Tensor, y: Tensor) -> Tensor:
        return grad


@mutant("the gradient passes by its own sign", GRADIENT)
class _(Layer):
    def passed(self, grad: Tensor, y: Tensor) -> Tensor:
        return grad.relu()


@mutant("the input's gradient forgets the last output", GRADIENT)
class _(Layer):
    def to_input(self, sent: Tensor, weight: Tensor) -> Tensor:
        return sent[:, :-1] @ weight[:-1]


@mutant("the weight's gradient counts the first vector of rows only", GRADIENT)
class _(Layer):
    def to_weight(self, sent: Tensor, x: Tensor) -> Tensor:
        return sent[:16].mT @ x[:16]


@mutant("the weight's gradient is a mean over rows", GRADIENT)
class _(Layer):
    def to_weight(self, sent: Tensor, x: Tensor) -> Tensor:
        return sent.mT @ x / len(x)


@mutant("the bias gets what the ReLU held back", GRADIENT)
class _(Layer):
    def passed(self, grad: Tensor, y: Tensor) -> Tensor:
        self.grad = grad
        return super().passed(grad, y)

    def to_bias(self, sent: Tensor) -> Tensor:
        return self.grad.sum(0)
