"""Backpropagation into activations or pixels, with the weights held fixed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from switchgrad.errors import ModelError

__all__ = ["Optimised", "frozen", "optimise_input"]


@contextlib.contextmanager
def frozen(model: nn.Module) -> Generator[None]:
    """While it is entered, no parameter of ``model`` gets a gradient and its layers are in evaluation mode.

    Afterwards, and after an exception, each parameter's ``requires_grad`` and each layer's mode is what it was.

    >>> net = nn.Linear(2, 2)
    >>> with frozen(net):
    ...     print(net.weight.requires_grad, net.training)
    False False
    >>> net.weight.requires_grad, net.training
    (True, True)
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True)
class Optimised:
    """What `optimise_input` found: the ``input`` itself and the objective before each step and after the last."""

    input: Tensor
    history: list[float] = field(repr=False)


def optimise_input(
    model: nn.Module,
    objective: Callable[[Any], Tensor],
    start: Tensor,
    steps: int = 100,
    lr: float = 0.1,
    *,
    maximize: bool = False,
    bounds: tuple[float, float] | None = None,
    optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
) -> Optimised:
    """Change the input, not the weights, until the model's answer suits an objective.

    ``objective``: from the model's output to one number, which is made small (large with ``maximize``): the score of a
    class, the distance to a wanted activation (inversion), the mean of a map. ``start``: the first input, any shape
    that the model takes, left alone; where ``model`` is the tail of a network these are hidden activations.
    ``bounds`` clamps after each step. ``optimiser``: a class of ``torch.optim``, called with ``lr``.

    The model is `frozen` meanwhile: ``requires_grad`` and modes are restored, ``.grad`` of its parameters stays as it
    was. Gradients flow by `switchgrad.backprop.routing` if one is entered, and even under ``torch.no_grad``.

    Raises `ModelError` for fewer than 0 steps, a start without a gradient (integers), an objective that is no single
    number, or one that does not depend on the input.

    D. Erhan, Y. Bengio, A. Courville, P. Vincent: Visualizing higher-layer features of a deep network, 2009;
    A. Mahendran, A. Vedaldi: Understanding deep image representations by inverting them, 2015.

    >>> net = nn.Linear(3, 2)
    >>> found = optimise_input(net, lambda y: (y - torch.tensor([[1.0, -1.0]])).square().sum(), torch.zeros(1, 3), 200)
    >>> found.history[-1] < 1e-3 * found.history[0], net(found.input).shape
    (True, torch.Size([1, 2]))
    """
    if steps < 0:
        raise ModelError(f"steps is {steps}; give 0 or more")
    if not (start.is_floating_point() or start.is_complex()):
        raise ModelError(f"start has dtype {start.dtype}; give floating-point numbers, which can change by small steps")
    with frozen(model), torch.enable_grad():
        input = start.detach().clone().requires_grad_()
        rule = optimiser([input], lr=lr, maximize=maximize)
        history: list[float] = []
        for _ in range(steps):
            value = _number(objective(model(input)))
            history.append(value.item())
            (input.grad,) = torch.autograd.grad(value, input)
            rule.step()
            if bounds is not None:
                input.detach().clamp_(*bounds)
        history.append(_number(objective(model(input))).item())
    return Optimised(input.detach(), history)


def _number(value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise ModelError(f"the objective gives {tuple(value.shape)}; give one number, a sum or a mean for instance")
    if not value.requires_grad:
        raise ModelError("the objective does not depend on the input; compute it from the model's output")
    return value.reshape(())
