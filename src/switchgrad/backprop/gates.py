"""Identity forward, something else backward: gradients stopped, reversed, or exchanged for another path's."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from switchgrad.errors import ModelError

__all__ = [
    "GradientReversal",
    "StopGradient",
    "reversal_strength",
    "reverse_gradient",
    "stop_gradient",
    "with_gradient_of",
]


def stop_gradient(input: Tensor) -> Tensor:
    """The same numbers as a constant: nothing flows back through them.

    Any shape; backward 0, at every order. It is ``input.detach()`` under the name that papers use for it.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> (x * stop_gradient(x)).backward()
    >>> x.grad.item()                                                   # 3, not 6
    3.0
    """
    return input.detach()


def reverse_gradient(input: Tensor, strength: float = 1.0) -> Tensor:
    """The same numbers, whose gradient comes back times ``-strength``.

    Any shape. Backward: ``dx = -strength * dy``. Between features and a classifier of domains it makes one optimiser
    train the classifier and train the features against it.

    Raises `ModelError` where strength is negative or not finite.

    Y. Ganin, V. Lempitsky: Unsupervised domain adaptation by backpropagation, 2015.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> reverse_gradient(2 * x, 0.5).backward()
    >>> x.grad.item()
    -1.0
    """
    if not 0 <= strength < math.inf:
        raise ModelError(f"strength is {strength}; give a finite number of 0 or more (the sign is turned here)")
    return _Scaled.apply(input, -strength)


def reversal_strength(progress: float, steepness: float = 10.0) -> float:
    """Ganin and Lempitsky's schedule ``2 / (1 + exp(-steepness * progress)) - 1``, from 0 to nearly 1.

    ``progress``: the share of training that is done, from 0 to 1.

    >>> [round(reversal_strength(p), 3) for p in (0.0, 0.1, 1.0)]
    [0.0, 0.462, 1.0]
    """
    if not 0 <= progress <= 1:
        raise ModelError(f"progress is {progress}; give the share of training that is done, from 0 to 1")
    return 2 / (1 + math.exp(-steepness * progress)) - 1


def with_gradient_of(value: Tensor, path: Tensor) -> Tensor:
    """The numbers of ``value`` with the gradient of ``path``, a tensor of the same shape.

    Backward: ``dpath = dy``, and nothing to ``value``. A straight-through estimator is
    ``with_gradient_of(round(x), x)``.

    Raises `ModelError` where the shapes differ.

    >>> x = torch.tensor([0.2, 1.7], requires_grad=True)
    >>> y = with_gradient_of(x.round(), x)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.0, 2.0], [1.0, 1.0])
    """
    if value.shape != path.shape:
        raise ModelError(f"value is {tuple(value.shape)} and path {tuple(path.shape)}; give two tensors of one shape")
    return _Exchanged.apply(value.detach(), path)


class StopGradient(nn.Module):
    """`stop_gradient` as a layer.

    >>> nn.Sequential(nn.Linear(2, 2), StopGradient())(torch.zeros(1, 2)).requires_grad
    False
    """

    def forward(self, input: Tensor) -> Tensor:
        """The input, as a constant."""
        return stop_gradient(input)


class GradientReversal(nn.Module):
    """`reverse_gradient` as a layer; set its ``strength`` between steps to follow a schedule.

    >>> layer = GradientReversal()
    >>> layer.strength = reversal_strength(0.5)
    >>> layer
    GradientReversal(strength=0.9866142981514305)
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, input: Tensor) -> Tensor:
        """The input, whose gradient will come back reversed."""
        return reverse_gradient(input, self.strength)

    def extra_repr(self) -> str:
        """The strength, for ``print(model)``."""
        return f"strength={self.strength}"


class _Scaled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, _: float) -> Tensor:  # pyright: ignore
        return input.view_as(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:  # pyright: ignore
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        return grad * ctx.factor, None


class _Exchanged(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, _: Tensor) -> Tensor:  # pyright: ignore
        return value.clone()

    @staticmethod
    def setup_context(*_: Any) -> None:  # pyright: ignore
        pass

    @staticmethod
    def backward(_: Any, grad: Tensor) -> tuple[None, Tensor]:  # pyright: ignore
        return None, grad
