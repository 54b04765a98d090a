"""Single steps of two recurrent networks that ``torch.nn`` lacks: Jordan's and the independently recurrent one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad.errors import GeometryError, ModelError

__all__ = ["IndRNNCell", "JordanCell", "activation_named", "at_least_one", "check_step"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda values: values,
}


class JordanCell(nn.Module):
    """One step of Jordan's network: what comes back is the output, not the hidden layer.

    ::

        h = nonlinearity(weight_ih x + weight_sh s + bias_h)
        y = output_nonlinearity(weight_ho h + bias_o)
        s' = decay * s + y

    ``s`` is Jordan's state layer: the outputs so far, each step fading by ``decay`` (0: the last output alone).
    Shapes: ``x`` ``[N, input_size]`` or ``[input_size]``, state ``[N, output_size]`` or ``[output_size]`` (zeros where
    none is given); returns ``(y, s')``, both in the state's shape. Nonlinearities: ``"tanh"``, ``"relu"``,
    ``"sigmoid"``, ``"identity"``. New parameters are uniform in ``±1 / sqrt(hidden_size)``, as ``torch.nn.RNNCell``'s.

    Backward: the error at ``h`` is that at ``y`` through ``weight_ho``; to the step before it goes through
    ``weight_sh`` and, faded by ``decay``, directly.

    Raises `ModelError` for sizes below 1, an unknown nonlinearity, a decay outside ``[0, 1)``; `GeometryError` for an
    input or state of another shape.

    M. Jordan: Serial order: a parallel distributed processing approach, 1986.

    >>> cell = JordanCell(3, 8, 2)
    >>> y, state = cell(torch.zeros(5, 3))
    >>> y.shape, torch.equal(y, state)
    (torch.Size([5, 2]), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        output_nonlinearity: str = "tanh",
        decay: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        at_least_one(input_size=input_size, hidden_size=hidden_size, output_size=output_size)
        if not 0 <= decay < 1:
            raise ModelError(f"decay is {decay}; give a share from 0 to below 1 of the state that stays")
        self.activation = activation_named(nonlinearity)
        self.output_activation = activation_named(output_nonlinearity)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, output_size
        self.nonlinearity, self.output_nonlinearity, self.decay = nonlinearity, output_nonlinearity, decay
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.weight_sh = nn.Parameter(torch.empty(hidden_size, output_size, device=device, dtype=dtype))
        self.weight_ho = nn.Parameter(torch.empty(output_size, hidden_size, device=device, dtype=dtype))
        self.bias_h = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype)) if bias else None
        self.bias_o = nn.Parameter(torch.empty(output_size, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in ``±1 / sqrt(hidden_size)``."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def forward(self, input: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output and the next state."""
        state = check_step(input, state, self.input_size, self.output_size)
        return self.step(functional.linear(input, self.weight_ih, self.bias_h), state)

    def step(self, drive: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A step whose ``drive = weight_ih x + bias_h`` is known already."""
        hidden = self.activation(drive + functional.linear(state, self.weight_sh))
        output = self.output_activation(functional.linear(hidden, self.weight_ho, self.bias_o))
        return output, self.decay * state + output if self.decay else output

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"{self.input_size}, {self.hidden_size}, {self.output_size}, bias={self.bias_h is not None}, "
            f"nonlinearity={self.nonlinearity!r}, output_nonlinearity={self.output_nonlinearity!r}, decay={self.decay}"
        )


class IndRNNCell(nn.Module):
    """One step of the independently recurrent network: each unit remembers itself and no other.

    ``h' = nonlinearity(weight_ih x + weight_hh * h + bias)`` with a vector ``weight_hh``, multiplied unit by unit.

    Shapes: ``x`` ``[N, input_size]`` or ``[input_size]``, ``h`` ``[N, hidden_size]`` or ``[hidden_size]`` (zeros where
    none is given); returns ``h'``. Nonlinearities as in `JordanCell`; ReLU by default, since the gradient through
    ``T`` steps is a product of ``T`` recurrent weights and slopes, which `clip_recurrent` keeps in bounds. New input
    weights and biases are uniform in ``±1 / sqrt(hidden_size)``, recurrent weights in ``[0, 1]``.

    Backward: ``dL/dh = weight_hh * nonlinearity' * dL/dh'``, unit by unit.

    Raises `ModelError` for sizes below 1 or an unknown nonlinearity, `GeometryError` for another shape.

    S. Li, W. Li, C. Cook, C. Zhu, Y. Gao: Independently recurrent neural network (IndRNN), 2018.

    >>> cell = IndRNNCell(3, 4)
    >>> cell(torch.zeros(5, 3)).shape, cell.weight_hh.shape
    (torch.Size([5, 4]), torch.Size([4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        at_least_one(input_size=input_size, hidden_size=hidden_size)
        self.activation = activation_named(nonlinearity)
        self.input_size, self.hidden_size, self.nonlinearity = input_size, hidden_size, nonlinearity
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))
        nn.init.uniform_(self.weight_hh, 0, 1)

    @torch.no_grad()
    def clip_recurrent(self, steps: int, growth: float = 2.0) -> None:
        """Keep ``|weight_hh|`` at most ``growth ** (1 / steps)``; call it after each update of the weights.

        So nothing grows by more than ``growth`` in ``steps`` steps of a ReLU network (section 3.1 of the paper).
        """
        if steps < 1 or not growth > 0:
            raise ModelError(f"steps is {steps} and growth {growth}; give at least 1 step and a positive growth")
        bound = growth ** (1 / steps)
        self.weight_hh.clamp_(-bound, bound)

    def forward(self, input: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The next hidden state."""
        hidden = check_step(input, hidden, self.input_size, self.hidden_size)
        return self.step(functional.linear(input, self.weight_ih, self.bias), hidden)

    def step(self, drive: Tensor, hidden: Tensor) -> Tensor:
        """A step whose ``drive = weight_ih x + bias`` is known already."""
        return self.activation(drive + self.weight_hh * hidden)

    def extra_repr(self) -> str:
        """The arguments, for ``print(model)``."""
        return (
            f"{self.input_size}, {self.hidden_size}, bias={self.bias is not None}, nonlinearity={self.nonlinearity!r}"
        )


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """The function of a nonlinearity's name; `ModelError` for a name that is none."""
    if name not in _ACTIVATIONS:
        raise ModelError(f"nonlinearity is {name!r}; give one of {', '.join(map(repr, _ACTIVATIONS))}")
    return _ACTIVATIONS[name]


def at_least_one(**sizes: int) -> None:
    """Raise `ModelError` where a size is below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ModelError(f"{name} is {size}; give at least 1")


def check_step(input: Tensor, state: Tensor | None, features: int, width: int) -> Tensor:
    """The state to start from, zeros where none is given, once input and state are known to fit."""
    if input.dim() not in (1, 2) or input.shape[-1] != features:
        raise GeometryError(f"the input is {tuple(input.shape)}; this cell wants [N, {features}] or [{features}]")
    if state is None:
        return input.new_zeros(*input.shape[:-1], width)
    if tuple(state.shape) != (*input.shape[:-1], width):
        raise GeometryError(
            f"the state is {tuple(state.shape)}; for an input of {tuple(input.shape)} this cell wants "
            f"{(*input.shape[:-1], width)}"
        )
    return state
