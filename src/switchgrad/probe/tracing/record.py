"""What a trace is made of: plain data, nothing that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from switchgrad.geometry import Window

Kind = Literal["layer", "function", "unseen"]


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """A tensor that passed, and the gradient of the loss that came back to it.

    ``value`` and ``gradient`` are copies on the CPU. The gradient of an input is what this call sent back; where a
    tensor is used twice, the gradient at its maker is the sum of both. None: nothing came back, or nothing can
    (integers).
    ``source`` is the number of the step that made the tensor, 0 for an input of the network, None where unknown.
    """

    value: Tensor
    gradient: Tensor | None
    source: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value, its batch included."""
        return tuple(self.value.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Winners:
    """Which cells won in a max pooling layer.

    ``indices`` are PyTorch's: flat and row-major in each channel of the input, -1 where no cell won, in the shape of
    the output. ``codes`` are the switches (the winner's offset in its window), where windows have one fixed size.
    """

    indices: Tensor
    input_size: tuple[int, ...]
    window: Window | None = None
    codes: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A weight as one call used it, and the gradient from that call alone. ``name`` is its full name in the model."""

    name: str
    value: Tensor
    gradient: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call: of a layer, of a function outside of layers, or of something that a trace cannot see into.

    ``name`` is the layer's in the model, for others the module that made the call (``""`` for the model itself).
    ``type`` is the layer's class, the function's name, or the names of the autograd nodes that were found;
    ``arguments`` are those of ``print(layer)``. ``call`` counts the calls of one layer from 1. ``forward`` and
    ``backward`` say the rule in words. ``window`` is what slides over the input, if anything does. ``functions`` are
    those that a layer of your own called. ``notes`` say what is worth a look: a dead layer, a NaN.
    """

    number: int
    kind: Kind
    name: str
    type: str
    call: int
    inputs: tuple[Flow, ...]
    outputs: tuple[Flow, ...]
    parameters: tuple[Parameter, ...]
    forward: str
    backward: str
    arguments: str = ""
    window: Window | None = None
    winners: Winners | None = None
    functions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The step's name as people say it: ``c1``, ``c1 (call 2)``, ``add in block``."""
        if self.kind == "layer":
            return self.name + (f" (call {self.call})" if self.call > 1 else "")
        return f"{self.type} in {self.name}" if self.name else self.type


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The number that is to fall: its name, its value before and after the update, and what it says to the output."""

    name: str
    value: float
    after: float
    output: Flow
    forward: str
    backward: str


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """A weight before and after the update; ``gradient`` is the sum over every call that used it, None if none did."""

    name: str
    before: Tensor
    gradient: Tensor | None
    after: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One training iteration of a network: forward steps in their order, the loss, what came back, the update.

    ``inputs`` are the network's own, with the gradients of the loss by them; ``target`` is what the loss compared
    with; ``uncalled`` names layers that the forward pass left out. `switchgrad.trace` makes one.
    """

    model: str
    inputs: tuple[Flow, ...]
    target: Tensor | None
    steps: tuple[Step, ...]
    loss: Loss
    updates: tuple[Update, ...]
    rule: str
    lr: float
    training: bool
    seed: int
    uncalled: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def step(self, name: str) -> Step:
        """The first step of this layer or number; ``KeyError`` where there is none."""
        for step in self.steps:
            if name in (step.name if step.kind == "layer" else step.title, step.title, str(step.number)):
                return step
        raise KeyError(name)
