"""Average pooling: every cell has the same share. Its meaning lives in `switchgrad.ops.avg_pool.reference`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.ops.avg_pool import reference

Kept = tuple[tuple[int, ...], Window]


@dataclass(frozen=True)
class AveragePool:
    """``y[n, c, p]`` is the sum of the window at p, divided by its R cells.

    R counts the padding, as zeros; without ``count_include_pad`` only the cells inside the input. A ``divisor`` stands
    for R everywhere, and 1 makes it sum pooling. Backward: ``delta / R`` to every cell of the window, added up where
    windows overlap; nobody wins.

    >>> import torch
    >>> y, kept = AveragePool(2).forward(torch.tensor([[[[3.0, 9.0], [0.0, 6.0]]]]))
    >>> y.item(), AveragePool(2).backward(torch.tensor([[[[4.0]]]]), kept)[0].tolist()
    (4.5, [[[[1.0, 1.0], [1.0, 1.0]]]])
    """

    kernel_size: IntOrTuple
    stride: IntOrTuple | None = None
    padding: Padding = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None

    def __post_init__(self) -> None:
        if self.divisor == 0:
            raise GeometryError("divisor is 0; give another number, or None for the number of cells")

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H] -> y [N, C, *P]``."""
        size = tuple(x.shape[2:])
        win = window(len(size), self.kernel_size, self.stride, self.padding, 1, self.ceil_mode, size)
        y = reference.avg_pool(x, win.numbers, self.count_include_pad, self.divisor or 0)
        return y, (size, win)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, C, *P] -> dx [N, C, *H]``."""
        size, win = kept
        shares = (self.count_include_pad, self.divisor or 0, False)  # row-major, not channels last
        return (reference.avg_pool_spread(delta, size, win.numbers, *shares),)
