"""LeNet-5 learns handwritten digits with nothing but the files of this package.

``python -m switchgrad.reference.lenet5`` shows it, in some seconds on one core. The layers are those of
``models.lenet5`` for pictures of 8x8: 8-4-4-2, then 120, 84 and the ten classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from switchgrad import data
from switchgrad.reference.activation.relu import ReLU
from switchgrad.reference.convolution.im2col import ConvolutionIm2col
from switchgrad.reference.linear import Linear
from switchgrad.reference.loss.cross_entropy import CrossEntropy
from switchgrad.reference.network import Network
from switchgrad.reference.pooling.max_pool import MaxPool
from switchgrad.reference.shape.flatten import Flatten
from switchgrad.reference.update.momentum import Momentum

WANTED = 0.95


def lenet5(generator: torch.Generator) -> Network:
    """The network for ``[N, 1, 8, 8]``, weights drawn with ``generator``, biases 0."""
    return Network(
        [
            (ConvolutionIm2col(padding=2), glorot(generator, 6, 1, 5, 5)),  # C1
            (ReLU(), ()),
            (MaxPool(2), ()),  # S2
            (ConvolutionIm2col(padding=2), glorot(generator, 16, 6, 5, 5)),  # C3
            (ReLU(), ()),
            (MaxPool(2), ()),  # S4
            (Flatten(), ()),
            (Linear(), glorot(generator, 120, 64)),  # C5
            (ReLU(), ()),
            (Linear(), glorot(generator, 84, 120)),  # F6
            (ReLU(), ()),
            (Linear(), glorot(generator, 10, 84)),
        ]
    )


def glorot(generator: torch.Generator, outputs: int, inputs: int, *kernel: int) -> tuple[Tensor, Tensor]:
    """Weights ``[outputs, inputs, *kernel]`` uniform with variance 2 / (fan-in + fan-out), and biases of 0."""
    bound = math.sqrt(6 / ((inputs + outputs) * math.prod(kernel)))
    return bound * (2 * torch.rand(outputs, inputs, *kernel, generator=generator) - 1), torch.zeros(outputs)


def train(net: Network, x: Tensor, y: Tensor, epochs: int, generator: torch.Generator) -> None:
    """Momentum on mini-batches of 32, in an order drawn anew for each epoch."""
    loss, rule = CrossEntropy(), Momentum(alpha=0.05, mu=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=generator).split(32):
            _, kept = loss.forward(net.forward(x[batch]), y[batch])
            net.backward(loss.backward(torch.ones(()), kept)[0])
            net.update(rule)


def accuracy(net: Network, x: Tensor, y: Tensor) -> float:
    """Share of the pictures whose highest score is that of their class."""
    return (net.forward(x).argmax(1) == y).double().mean().item()


def main(most_epochs: int = 20, say: Callable[[str], None] = print) -> float:
    """Train on the digits until 95 % of the held-out ones are right; returns the share that is."""
    digits = data.load("digits")
    mean, std = digits.mean[0], digits.std[0]
    x, held_out = ((split.images / 255 - mean) / std for split in (digits.train, digits.val))
    generator = torch.Generator().manual_seed(0)
    net, start, right = lenet5(generator), perf_counter(), 0.0
    for epoch in range(1, most_epochs + 1):
        train(net, x, digits.train.labels, 1, generator)
        right = accuracy(net, held_out, digits.val.labels)
        say(f"epoch {epoch:2}: {right:.1%} of {len(held_out)} held-out digits, {perf_counter() - start:.1f} s")
        if right >= WANTED:
            break
    return right


if __name__ == "__main__":
    torch.set_num_threads(1)  # steps this small are slower on several threads
    main()
