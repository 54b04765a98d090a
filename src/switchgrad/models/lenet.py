"""LeNet-5: as it is written today, and as it was published in 1998.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition, Proceedings of the
IEEE 86 (11), 1998. Layers bear the paper's names: C a convolution, S a subsampling, F fully connected.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from switchgrad.geometry import output_size
from switchgrad.models.network import Card, Network, Task, draw_glorot
from switchgrad.nn import MaxPool2d
from switchgrad.nn.mapped_conv import MappedConv2d
from switchgrad.nn.subsampling import TrainableSubsampling2d

LENET5 = Card(
    name="lenet5",
    description="LeNet-5 as it is written today: ReLU and max pooling, 28x28 kept by the first convolution",
    paper="LeCun et al., Gradient-based learning applied to document recognition",
    year=1998,
    input_shape=(1, 28, 28),
    num_classes=10,
    parameters=61_706,
    macs=416_520,
    taps={
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120,),
        "f6": (84,),
        "output": (10,),
    },
)

LENET5_1998 = Card(
    name="lenet5-1998",
    description="LeNet-5 as published: trainable subsampling, the connection table of C3, scaled tanh",
    paper="LeCun et al., Gradient-based learning applied to document recognition",
    year=1998,
    input_shape=(1, 32, 32),
    num_classes=10,
    parameters=60_850,
    macs=328_096,
    taps={
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120, 1, 1),
        "f6": (84,),
        "output": (10,),
    },
)

C3_CONNECTIONS: tuple[tuple[int, ...], ...] = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
"""Table I of the paper: the maps of S2 that each of the 16 maps of C3 sees.

Six neighbours of three, six of four (both around the circle), three with gaps, and one of all.
"""


def lenet5(task: Task) -> nn.Module:
    """LeNet-5 of today: two 5x5 convolutions of 6 and 16 maps with ReLU and 2x2 max pooling, then 120, 84, classes.

    C1 pads by 2, so that the map keeps the size of the picture. C3 does not pad, except along an axis of fewer than 12
    pixels, where it pads by 2 as well, so that S4 still has a cell: 28 goes 28-14-10-5, 8 (the digits of scikit-learn)
    goes 8-4-4-2. The least size is 4x4. Weights are Glorot uniform, biases 0.

    With 1x28x28 and 10 classes it has 61,706 parameters.
    """
    task.at_least("lenet5", 4)
    padding = (_c3_padding(task.height), _c3_padding(task.width))
    cells = _s4_cells(task.height) * _s4_cells(task.width)
    layers: dict[str, nn.Module] = {
        "c1": nn.Conv2d(task.in_channels, 6, 5, padding=2),
        "relu1": nn.ReLU(),
        "s2": MaxPool2d(2),
        "c3": nn.Conv2d(6, 16, 5, padding=padding),
        "relu3": nn.ReLU(),
        "s4": MaxPool2d(2),
        "flatten": nn.Flatten(),
        "c5": nn.Linear(16 * cells, 120),
        "relu5": nn.ReLU(),
        "f6": nn.Linear(120, 84),
        "relu6": nn.ReLU(),
        "output": nn.Linear(84, task.num_classes),
    }
    for layer in layers.values():
        draw_glorot(layer)
    return LeNet5(layers, (task.in_channels, *task.size))


def _c3_padding(pixels: int) -> int:
    return 0 if pixels >= 12 else 2


def _s4_cells(pixels: int) -> int:
    """Cells of S4 along an axis of so many pixels."""
    pad = _c3_padding(pixels)
    s2 = output_size(pixels, 2, stride=2)
    return output_size(output_size(s2, 5, padding=(pad, pad)), 2, stride=2)


def lenet5_1998(task: Task) -> nn.Module:
    """LeNet-5 as published, for pictures of 32x32.

    C1 156, S2 12, C3 1,516, S4 32, C5 48,120 and F6 10,164 parameters; every layer up to F6 ends in the squashing
    function `ScaledTanh`. Weights and biases are uniform in ``±2.4 / fan-in`` (appendix A of the paper; the fan-in of
    a unit of S2 or S4 is the 4 cells that it sums).

    Two things differ from the paper. The output is linear, with 850 more parameters for ten classes, and meant for
    softmax and cross-entropy: the paper's radial basis functions on fixed bitmaps of 7x12 are not here. And pictures
    of other sizes are brought to 32x32 by a front without parameters: 28x28 gets two more pixels on each side (MNIST
    was centred in 32x32 so), each a copy of the nearest border pixel, which keeps the background whatever its value
    after normalisation; every other size is resized bilinearly.
    """
    task.at_least("lenet5-1998", 1)
    layers: dict[str, nn.Module] = {
        "front": _front(task.size),
        "c1": nn.Conv2d(task.in_channels, 6, 5),
        "squash1": ScaledTanh(),
        "s2": TrainableSubsampling2d(6),
        "squash2": ScaledTanh(),
        "c3": MappedConv2d(6, 16, C3_CONNECTIONS, 5),
        "squash3": ScaledTanh(),
        "s4": TrainableSubsampling2d(16),
        "squash4": ScaledTanh(),
        "c5": nn.Conv2d(16, 120, 5),
        "squash5": ScaledTanh(),
        "flatten": nn.Flatten(),
        "f6": nn.Linear(120, 84),
        "squash6": ScaledTanh(),
        "output": nn.Linear(84, task.num_classes),
    }
    for layer in layers.values():
        _draw_as_in_1998(layer)
    return LeNet51998(layers, (task.in_channels, *task.size))


class LeNet5(Network):
    """What `lenet5` builds."""


class LeNet51998(Network):
    """What `lenet5_1998` builds."""


class ScaledTanh(nn.Module):
    """The paper's squashing function ``1.7159 tanh(2/3 x)``: it takes 1 to 1 and -1 to -1, and bends most there.

    >>> torch.round(ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0, 100.0])), decimals=4)
    tensor([-1.0000,  0.0000,  1.0000,  1.7159])
    """

    amplitude = 1.7159
    slope = 2 / 3

    def forward(self, input: Tensor) -> Tensor:
        """Squash every value; any shape."""
        return self.amplitude * torch.tanh(self.slope * input)


class Resize(nn.Module):
    """Pictures ``[N, C, H, W]`` brought to ``size`` by bilinear interpolation, smoothed first where they shrink.

    >>> Resize((1, 2))(torch.tensor([[[[0.0, 0.0, 4.0, 4.0]]]]))
    tensor([[[[0.5714, 3.4286]]]])
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, input: Tensor) -> Tensor:
        """Resize each map alone."""
        return functional.interpolate(input, self.size, mode="bilinear", antialias=True)

    def extra_repr(self) -> str:
        """The argument, for ``print(model)``."""
        return f"size={self.size}"


def _front(size: tuple[int, int]) -> nn.Module:
    """The way from a picture of ``size`` to the 32x32 that the paper's network wants."""
    if size == (32, 32):
        return nn.Identity()
    return nn.ReplicationPad2d(2) if size == (28, 28) else Resize((32, 32))


@torch.no_grad()
def _draw_as_in_1998(layer: nn.Module) -> None:
    """Draw weights and biases uniformly in ±2.4 / fan-in, the number of inputs of the unit they belong to."""
    if isinstance(layer, MappedConv2d):
        layer.uniform_by_fan_in([2.4 / fan_in for fan_in in layer.fan_in])
        return
    fan_in = layer.window.cells if isinstance(layer, TrainableSubsampling2d) else _fan_in(layer)
    for parameter in layer.parameters():
        parameter.uniform_(-2.4 / fan_in, 2.4 / fan_in)


def _fan_in(layer: nn.Module) -> int:
    """Inputs of one unit of a convolution or a linear layer; 1 for layers without weights."""
    return math.prod(layer.weight.shape[1:]) if isinstance(layer, nn.Conv2d | nn.Linear) else 1
