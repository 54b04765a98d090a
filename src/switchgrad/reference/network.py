"""A plain list of layers: the four phases of backpropagation, with nothing hidden."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from switchgrad.errors import ModelError
from switchgrad.reference.layer import Layer, Rule


class Network:
    """Layers in a row, each with its parameters: ``Network([(Linear(), (W, b)), (ReLU(), ())])``.

    One step of training is four phases: `forward`, the loss (a layer too), `backward`, `update`. Forward keeps what
    each layer's backward needs; backward goes through the list from its end, hands each layer's ``dx`` to the layer
    before, and leaves ``gradients``, in the order and shapes of ``parameters``; update replaces the parameters.
    Masks and fixed statistics stand among the parameters, get no gradient (None), and stay as they are.

    >>> import torch
    >>> from switchgrad.reference import SGD, Linear, SquaredError
    >>> net, loss = Network([(Linear(), (torch.tensor([[2.0]]), torch.tensor([0.0])))]), SquaredError()
    >>> x, y = torch.tensor([[3.0]]), torch.tensor([[7.0]])
    >>> J, kept = loss.forward(net.forward(x), y)
    >>> net.backward(loss.backward(torch.ones(()), kept)[0]).tolist(), net.gradients[0][0].item()
    ([[-2.0]], -3.0)
    >>> net.update(SGD(0.5))
    >>> net.parameters[0][0].item()
    3.5
    """

    def __init__(self, layers: Iterable[tuple[Layer, Sequence[Tensor]]]) -> None:
        rows = list(layers)
        self.layers = [layer for layer, _ in rows]
        self.parameters = [list(parameters) for _, parameters in rows]
        self.gradients: list[list[Tensor | None]] = []
        self._kept: list[Any] = []
        self._memory: dict[tuple[int, int], Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The output of the last layer."""
        self._kept = []
        for layer, parameters in zip(self.layers, self.parameters, strict=True):
            x, kept = layer.forward(x, *parameters)
            self._kept.append(kept)
        return x

    def backward(self, delta: Tensor) -> Tensor:
        """From ``delta``, dJ/d(output), to dJ/d(input); ``gradients`` then holds those of the parameters."""
        if len(self._kept) != len(self.layers):
            raise ModelError("backward was called before forward; it needs what forward keeps")
        self.gradients = []
        for layer, kept in zip(reversed(self.layers), reversed(self._kept), strict=True):
            dx, *gradients = layer.backward(delta, kept)
            if dx is None:
                raise ModelError(f"{type(layer).__name__} gives no gradient of its input, so nothing before it learns")
            self.gradients.insert(0, gradients)
            delta = dx
        return delta

    def update(self, rule: Rule) -> None:
        """One step of ``rule`` for every parameter that has a gradient; it remembers what the rule remembers."""
        if len(self.gradients) != len(self.layers):
            raise ModelError("update was called before backward; it needs the gradients")
        for i, (parameters, gradients) in enumerate(zip(self.parameters, self.gradients, strict=True)):
            for j, (theta, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                if gradient is not None:
                    memory = self._memory[i, j] if (i, j) in self._memory else rule.start(theta)
                    parameters[j], self._memory[i, j] = rule.step(theta, gradient, memory)
