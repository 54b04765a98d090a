"""One small filter for every channel, and what lies beyond the border: the parts of weighted and blurred pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.ops.routing import is_transformed

Border: TypeAlias = Literal["reflect", "replicate", "zeros"]
_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MODES = {"reflect": "reflect", "replicate": "replicate", "zeros": "constant"}


def correlate(
    maps: Tensor,
    kernel: Tensor,
    stride: tuple[int, ...],
    dilation: tuple[int, ...] | int = 1,
    padding: tuple[int, ...] | int = 0,
) -> Tensor:
    """Every channel of (N, C, ...) correlated with one kernel."""
    channels = maps.shape[1]
    # A copy for each channel: PyTorch takes an expanded kernel another way, which takes several times as long.
    kernels = kernel.expand(channels, 1, *kernel.shape).contiguous()
    run = _CONVOLUTIONS[kernel.dim()]
    return run(maps, kernels, stride=stride, padding=padding, dilation=dilation, groups=channels)


def outer(rows: Sequence[Tensor]) -> Tensor:
    """The kernel whose weights are products of one number along each axis.

    >>> outer([torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])])
    tensor([[1., 3.],
            [2., 6.]])
    """
    kernel = rows[0]
    for row in rows[1:]:
        kernel = kernel.unsqueeze(-1) * row
    return kernel


def bordered(maps: Tensor, before: int, after: int, mode: Border) -> Tensor:
    """(N, C, ...) with so many cells more on each side of every spatial axis.

    >>> bordered(torch.tensor([[[1.0, 2.0, 3.0]]]), 1, 2, "reflect")
    tensor([[[2., 1., 2., 3., 2., 1.]]])
    """
    if before == after == 0:
        return maps
    if mode == "zeros" or torch.compiler.is_compiling() or is_transformed():
        return functional.pad(maps, [before, after] * (maps.dim() - 2), _MODES[mode])
    return _Bordered.apply(maps, before, after, mode)


class _Bordered(torch.autograd.Function):
    """PyTorch's padding, with a backward that touches the border alone."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, before: int, after: int, mode: Border) -> Tensor:  # pyright: ignore
        ctx.before, ctx.after, ctx.mode = before, after, mode
        return functional.pad(maps, [before, after] * (maps.dim() - 2), _MODES[mode])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        for axis in range(2, grad.dim()):
            grad = _folded(grad, axis, ctx.before, ctx.after, ctx.mode)
        return grad, None, None, None


def _folded(grad: Tensor, axis: int, before: int, after: int, mode: Border) -> Tensor:
    """The gradient of the cells beyond the border of an axis added to the cells that they repeat."""
    size = grad.shape[axis] - before - after
    inside = grad.narrow(axis, before, size).clone()
    left, right = grad.narrow(axis, 0, before), grad.narrow(axis, before + size, after)
    if mode == "reflect":
        inside.narrow(axis, 1, before).add_(left.flip(axis))
        inside.narrow(axis, size - 1 - after, after).add_(right.flip(axis))
    else:
        inside.narrow(axis, 0, 1).add_(left.sum(axis, keepdim=True))
        inside.narrow(axis, size - 1, 1).add_(right.sum(axis, keepdim=True))
    return inside
