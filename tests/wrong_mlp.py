"""A chain of fully connected layers written out in plain PyTorch, done right and with one thing wrong each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from declarations.mlp import layers
from harness.declaration import Mutant


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chain: Chain, x: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = layers(parameters)
        hidden = [x]
        for at, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            sums = chain.sums(hidden[-1], weight)
            sums = sums if bias is None else chain.add(sums, bias, at)
            hidden.append(chain.act(sums) if chain.has_relu(at, len(weights)) else sums)
        ctx.chain, ctx.has_bias = chain, [bias is not None for bias in biases]
        ctx.save_for_backward(*weights, *hidden[:-1])
        return hidden[-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, hidden, found = ctx.saved_tensors[: len(ctx.has_bias)], ctx.saved_tensors[len(ctx.has_bias) :], []
        for at in reversed(range(len(weights))):
            bias = [ctx.chain.to_bias(grad)] if ctx.has_bias[at] else []
            found = [ctx.chain.to_weight(grad, hidden, at), *bias, *found]
            grad = ctx.chain.below(grad, weights, at)
            if at:
                grad = ctx.chain.passed(grad, hidden[at])
        return None, grad, *found


class Chain:
    """The operator done right; every decision is a method."""

    def __call__(self, x: Tensor, *parameters: Tensor) -> Tensor:
        return _Run.apply(self, x, *parameters)

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.mT

    def add(self, sums: Tensor, bias: Tensor, at: int) -> Tensor:
        return sums + bias

    def has_relu(self, at: int, count: int) -> bool:
        return at + 1 < count

    def act(self, values: Tensor) -> Tensor:
        return values.relu()

    def passed(self, grad: Tensor, hidden: Tensor) -> Tensor:
        return torch.where(hidden <= 0, 0, grad)

    def below(self, grad: Tensor, weights: Sequence[Tensor], at: int) -> Tensor:
        return grad @ weights[at]

    def to_weight(self, grad: Tensor, hidden: Sequence[Tensor], at: int) -> Tensor:
        return grad.mT @ hidden[at]

    def to_bias(self, grad: Tensor) -> Tensor:
        return grad.sum(0)


# ---- one thing wrong ---------------------------------------------------------------------------------------------

LOOPS, GRADIENT = "values_equal_the_loops", "gradients_equal_the_loops"
MUTANTS: list[Mutant] = []


def mutant(name: str, killed_by: str) -> Callable[[type[Chain]], type[Chain]]:
    """Adds a variant to the list."""

    def add(variant: type[Chain]) -> type[Chain]:
        MUTANTS.append(Mutant(name, variant(), killed_by))
        return variant

    return add


@mutant("a ReLU behind the last layer too", LOOPS)
class _(Chain):
    def has_relu(self, at: int, count: int) -> bool:
        return True


@mutant("no ReLU behind the first layer", LOOPS)
class _(Chain):
    def has_relu(self, at: int, count: int) -> bool:
        return 0 < at < count - 1


@mutant("no ReLU before the last layer", LOOPS)
class _(Chain):
    def has_relu(self, at: int, count: int) -> bool:
        return at + 2 < count


@mutant("the ReLU passes the size of what is negative", LOOPS)
class _(Chain):
    def act(self, values: Tensor) -> Tensor:
        return values.abs()


@mutant("the bias of hidden layers is forgotten", LOOPS)
class _(Chain):
    def add(self, sums: Tensor, bias: Tensor, at: int) -> Tensor:
        return sums + bias if at else sums


@mutant("the bias comes behind the ReLU", LOOPS)
class _(Chain):
    def add(self, sums: Tensor, bias: Tensor, at: int) -> Tensor:
        return sums.relu() + bias


@mutant("the second block of inputs replaces the first", LOOPS)
class _(Chain):
    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        start = (x.shape[1] - 1) // 128 * 128
        return x[:, start:] @ weight[:, start:].mT


@mutant("rows beyond a vector are those of the first", LOOPS)
class _(Chain):
    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        return super().sums(x[torch.arange(len(x)) % 16], weight)


@mutant("hidden gradients pass where the output is 0", GRADIENT)
class _(Chain):
    def passed(self, grad: Tensor, hidden: Tensor) -> Tensor:
        return torch.where(hidden < 0, 0, grad)


@mutant("hidden gradients pass by their own sign", GRADIENT)
class _(Chain):
    def passed(self, grad: Tensor, hidden: Tensor) -> Tensor:
        return grad.relu()


@mutant("the way down forgets the last output", GRADIENT)
class _(Chain):
    def below(self, grad: Tensor, weights: Sequence[Tensor], at: int) -> Tensor:
        return grad[:, :-1] @ weights[at][:-1]


@mutant("the way down begins at the second block of outputs", GRADIENT)
class _(Chain):
    def below(self, grad: Tensor, weights: Sequence[Tensor], at: int) -> Tensor:
        start = (grad.shape[1] - 1) // 128 * 128
        return grad[:, start:] @ weights[at][start:]


@mutant("the first weight's gradient is made from the hidden layer", GRADIENT)
class _(Chain):
    def to_weight(self, grad: Tensor, hidden: Sequence[Tensor], at: int) -> Tensor:
        return super().to_weight(grad, [h.relu() for h in hidden], at)


@mutant("a weight's gradient counts the first group of rows only", GRADIENT)
class _(Chain):
    def to_weight(self, grad: Tensor, hidden: Sequence[Tensor], at: int) -> Tensor:
        return grad[:8].mT @ hidden[at][:8]


@mutant("a weight's gradient is a mean over rows", GRADIENT)
class _(Chain):
    def to_weight(self, grad: Tensor, hidden: Sequence[Tensor], at: int) -> Tensor:
        return super().to_weight(grad, hidden, at) / len(grad)


@mutant("a bias gets the last row's gradient", GRADIENT)
class _(Chain):
    def to_bias(self, grad: Tensor) -> Tensor:
        return grad[-1]
