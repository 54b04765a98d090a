"""The small convolutional network with which Keras greets its newcomers."""

from __future__ import annotations

from torch import nn

from switchgrad.errors import ModelError
from switchgrad.geometry import output_size
from switchgrad.models.network import Card, Network, Task, draw_glorot
from switchgrad.nn import MaxPool2d

CONVNET = Card(
    name="convnet",
    description="two 3x3 convolutions of 32 and 64 maps with max pooling, dropout and one dense layer",
    paper='F. Chollet, "Simple MNIST convnet", keras.io code examples',
    year=2015,
    input_shape=(1, 28, 28),
    num_classes=10,
    parameters=34_826,
    macs=2_440_960,
    taps={
        "conv1": (32, 26, 26),
        "pool1": (32, 13, 13),
        "conv2": (64, 11, 11),
        "pool2": (64, 5, 5),
        "flatten": (1600,),
        "output": (10,),
    },
)


def convnet(task: Task, *, dropout: float = 0.5) -> nn.Module:
    """Keras' MNIST example: 3x3 convolution of 32, max pool 2x2, 3x3 of 64, max pool 2x2, dropout, classes.

    The convolutions do not pad, except along an axis of fewer than 10 pixels, where both pad by 1, so that the last
    pool still has a cell: 28 goes 26-13-11-5, 8 (the digits of scikit-learn) goes 8-4-4-2. The least size is 4x4.
    Weights are drawn as Keras draws them: Glorot uniform, biases 0. ``dropout`` is from 0 to below 1.

    With 1x28x28 and 10 classes it has 34,826 parameters.
    """
    task.at_least("convnet", 4)
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout is {dropout}; give a share from 0 to below 1 of the values to drop")
    padding = (_padding(task.height), _padding(task.width))
    cells = _pool2_cells(task.height) * _pool2_cells(task.width)
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(task.in_channels, 32, 3, padding=padding),
        "relu1": nn.ReLU(),
        "pool1": MaxPool2d(2),
        "conv2": nn.Conv2d(32, 64, 3, padding=padding),
        "relu2": nn.ReLU(),
        "pool2": MaxPool2d(2),
        "flatten": nn.Flatten(),
        "dropout": nn.Dropout(dropout),
        "output": nn.Linear(64 * cells, task.num_classes),
    }
    for layer in layers.values():
        draw_glorot(layer)
    return ConvNet(layers, (task.in_channels, *task.size))


def _padding(pixels: int) -> int:
    return 0 if pixels >= 10 else 1


def _pool2_cells(pixels: int) -> int:
    """Cells of the second pool along an axis of so many pixels."""
    pad = (_padding(pixels), _padding(pixels))
    pool1 = output_size(output_size(pixels, 3, padding=pad), 2, stride=2)
    return output_size(output_size(pool1, 3, padding=pad), 2, stride=2)


class ConvNet(Network):
    """What `convnet` builds."""
