"""What every model of this room shares: its card, its sizes, and named layers in a row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from switchgrad.errors import ModelError


@dataclass(frozen=True)
class Card:
    """What is known of a network before it is built; tests compare every figure with the network itself.

    ``input_shape`` (C, H, W), ``num_classes``, ``parameters``, ``macs`` (multiply-adds for one picture, as `summary`
    counts them) and ``taps`` hold for the network as first published. ``taps`` gives the output shape, without the
    batch, of each layer worth looking at; every key is also the layer's name in the module.
    """

    name: str
    description: str
    paper: str
    year: int
    input_shape: tuple[int, int, int]
    num_classes: int
    parameters: int
    macs: int
    taps: Mapping[str, tuple[int, ...]]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the answer without the batch: one score a class."""
        return (self.num_classes,)


@dataclass(frozen=True)
class Task:
    """What a network is built for: pictures of ``in_channels`` by ``height`` by ``width``, told into classes."""

    num_classes: int
    in_channels: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    def at_least(self, name: str, pixels: int) -> None:
        """Raise `ModelError` where a side is below ``pixels``, the least that model ``name`` can take."""
        if min(self.size) < pixels:
            raise ModelError(
                f"input_size is {self.size}, but {name} needs at least {pixels} x {pixels} pixels; "
                f"enlarge the pictures or choose another model"
            )


class Network(nn.Sequential):
    """Layers in a row, by name, that answer a picture which does not fit in one sentence.

    Raises `ModelError` where the layers cannot take an input and it is not the ``[N, C, H, W]`` that the network was
    built for.

    >>> import torch
    >>> net = Network({"flatten": nn.Flatten(), "output": nn.Linear(64, 10)}, input_shape=(1, 8, 8))
    >>> net(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    >>> net(torch.zeros(5, 1, 9, 9))
    Traceback (most recent call last):
    switchgrad.errors.ModelError: the input is [5, 1, 9, 9], but this network was built for [N, 1, 8, 8]; ...
    """

    def __init__(self, layers: Mapping[str, nn.Module], input_shape: tuple[int, int, int] | None = None) -> None:
        super().__init__(OrderedDict(layers))
        self.input_shape = input_shape

    def forward(self, input: Tensor) -> Tensor:
        """Scores ``[N, num_classes]`` (before any softmax) of the pictures ``[N, C, H, W]``."""
        try:
            return super().forward(input)
        except (RuntimeError, ValueError) as error:
            if self.input_shape is None or (input.dim() == 4 and tuple(input.shape[1:]) == self.input_shape):
                raise
            wanted = ", ".join(str(size) for size in self.input_shape)
            raise ModelError(
                f"the input is {list(input.shape)}, but this network was built for [N, {wanted}]; resize the pictures "
                f"or build it with another input_size or in_channels"
            ) from error


def draw_glorot(layer: nn.Module) -> None:
    """Draw a convolution's or linear layer's weights Glorot-uniform, of variance ``2 / (fan-in + fan-out)``; biases 0.

    Other layers stay as they are. X. Glorot, Y. Bengio: Understanding the difficulty of training deep feedforward
    neural networks, 2010.
    """
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
