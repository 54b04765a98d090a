"""Max pooling: the winner takes the gradient. Its meaning lives in `switchgrad.ops.max_pool.reference`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from switchgrad.geometry import IntOrTuple, Padding, window
from switchgrad.ops.max_pool import reference

Kept = tuple[Tensor, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class MaxPool:
    """``y[n, c, p]`` is the largest number of the window at p, and its switch, the winner's number in the window.

    A tie goes to the first in row-major order. Backward: the switches are constants; each winner gets the ``delta``
    of its window, added up over the windows that it won, and every other cell 0.

    >>> import torch
    >>> y, kept = MaxPool(2).forward(torch.tensor([[[[3.0, 9.0], [0.0, 6.0]]]]))
    >>> y.item(), MaxPool(2).backward(torch.tensor([[[[5.0]]]]), kept)[0].tolist()
    (9.0, [[[[0.0, 5.0], [0.0, 0.0]]]])
    """

    kernel_size: IntOrTuple
    stride: IntOrTuple | None = None
    padding: Padding = 0
    dilation: IntOrTuple = 1
    ceil_mode: bool = False

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H] -> y [N, C, *P]``."""
        size = tuple(x.shape[2:])
        win = window(len(size), self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, size)
        y, switches = reference.max_pool(x, win.numbers)
        return y, (switches, size, win.numbers)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, C, *P] -> dx [N, C, *H]``."""
        switches, size, numbers = kept
        return (reference.max_pool_route(delta, switches, size, numbers),)
