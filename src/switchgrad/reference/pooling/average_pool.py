"""Average pooling: every cell of a window has the same share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from switchgrad.geometry import IntOrTuple, Padding, Window, window
from switchgrad.reference.patches import add_columns, columns

Kept = tuple[tuple[int, ...], Window]


@dataclass(frozen=True)
class AveragePool:
    """``y[n, c, p]`` is the mean of the R cells of the window at p; cells in the padding count as 0.

    Backward: ``delta / R`` to every cell of the window, added up where windows overlap; nobody wins.

    >>> import torch
    >>> y, kept = AveragePool(2).forward(torch.tensor([[[[3.0, 9.0], [0.0, 6.0]]]]))
    >>> y.item(), AveragePool(2).backward(torch.tensor([[[[4.0]]]]), kept)[0].tolist()
    (4.5, [[[[1.0, 1.0], [1.0, 1.0]]]])
    """

    kernel_size: IntOrTuple
    stride: IntOrTuple | None = None
    padding: Padding = 0

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        """``x [N, C, *H] -> y [N, C, *P]``."""
        size = tuple(x.shape[2:])
        win = window(len(size), self.kernel_size, self.stride, self.padding, input_size=size)
        return (columns(x, win).sum(2) / win.cells).unflatten(2, win.output_size(size)), (size, win)

    def backward(self, delta: Tensor, kept: Kept) -> tuple[Tensor]:
        """``delta [N, C, *P] -> dx [N, C, *H]``."""
        size, win = kept
        share = delta.flatten(2)[:, :, None] / win.cells
        return (add_columns(share.expand(-1, -1, win.cells, -1), size, win),)
