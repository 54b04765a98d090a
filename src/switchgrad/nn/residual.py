"""Blocks that add their input to what they made of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from switchgrad.errors import GeometryError, ModelError
from switchgrad.nn.pooling import MaxPool2d

__all__ = ["ConvPoolAdd", "Residual"]


class Residual(nn.Module):
    """``activation(body(x) + shortcut(x))``: in the paper's letters ``a[l+2] = g(z[l+2] + a[l])``.

    ``body``: any module; ``shortcut``: by default the input itself, else a module that gives it the body's shape (a
    1x1 convolution, say); ``activation``: ``torch.relu``, a module, any function, or None to leave the sum as it is.
    Body and shortcut must agree in shape: nothing is broadcast. With a body that gives 0 the block is ``g(x)``, which
    for the output of a ReLU is ``x`` itself. Backward: the gradient behind ``g`` goes unchanged down both ways, and
    the two results are added.

    Raises `GeometryError` where body and shortcut differ in shape.

    K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition, 2016.

    >>> block = Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)))
    >>> block(torch.zeros(1, 8, 6, 6)).shape
    torch.Size([1, 8, 6, 6])
    >>> Residual(nn.Linear(4, 2))(torch.zeros(1, 4))
    Traceback (most recent call last):
    switchgrad.errors.GeometryError: the body gives (1, 2) and the shortcut (1, 4); give a shortcut that ...
    """

    def __init__(
        self,
        body: nn.Module,
        shortcut: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = torch.relu,
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """The sum of both ways, activated."""
        output, carried = self.body(input), self.shortcut(input)
        if output.shape != carried.shape:
            raise GeometryError(
                f"the body gives {tuple(output.shape)} and the shortcut {tuple(carried.shape)}; give a shortcut that "
                "turns the input into the body's shape (a 1x1 convolution with the same stride, for instance)"
            )
        total = output + carried
        return total if self.activation is None else self.activation(total)


class ConvPoolAdd(nn.Module):
    """The input added to a branch of a 3x3 max pool and two 3x3 convolutions of 64 kernels each.

    ``y = conv2(relu(conv1(max_pool_3x3(x)))) + shortcut(x)``

    Shapes: ``[N, in_channels, H, W]`` (or without ``N``) to ``[N, kernels, H / stride, W / stride]`` (rounded up). The
    pool has ``stride`` and pads by 1, the convolutions keep the size. The shortcut is the input itself where its shape
    is the output's already, else a 1x1 convolution with the same stride. No activation follows the sum.

    Backward: the gradient goes unchanged to the shortcut and through the branch to the winners of the pool.

    Raises `ModelError` where a number is below 1.

    >>> block = ConvPoolAdd(64)
    >>> block(torch.zeros(1, 64, 12, 12)).shape, sum(p.numel() for p in block.parameters()) == 2 * (64 * 64 * 9 + 64)
    (torch.Size([1, 64, 12, 12]), True)
    >>> ConvPoolAdd(3, stride=2)(torch.zeros(1, 3, 13, 13)).shape
    torch.Size([1, 64, 7, 7])
    """

    def __init__(
        self,
        in_channels: int = 64,
        kernels: int = 64,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_channels, kernels, stride) < 1:
            raise ModelError(
                f"in_channels is {in_channels}, kernels {kernels}, stride {stride}; each must be at least 1"
            )
        self.pool = MaxPool2d(3, stride, padding=1)
        self.conv1 = nn.Conv2d(in_channels, kernels, 3, padding=1, device=device, dtype=dtype)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(kernels, kernels, 3, padding=1, device=device, dtype=dtype)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != kernels or stride != 1:
            self.shortcut = nn.Conv2d(in_channels, kernels, 1, stride, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        """The branch and the shortcut, added."""
        return self.conv2(self.relu(self.conv1(self.pool(input)))) + self.shortcut(input)
