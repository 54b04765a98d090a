"""S3Pool: max pooling with stride one, then rows and columns picked at random in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, window
from switchgrad.ops.exporting import stable_sort
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool.autograd import pool
from switchgrad.ops.placed import max_at
from switchgrad.ops.stochastic.draws import uniform
from switchgrad.ops.windows import check_floats, per_axis, wide

Pooled: TypeAlias = Any  # Tensor; with return_switches (Tensor, PlacedSwitches)
Strip: TypeAlias = tuple[int, int, int]  # first cell, cells, cells to pick


def s3_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    grid_size: IntOrTuple | None = None,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    r"""Max pooling at every cell, then some rows and columns of each strip, picked at random; averaged otherwise.

    Shapes: ``input`` is :math:`(N, C, H, W)` or :math:`(C, H, W)`, the result has
    :math:`P = \lfloor H / g \rfloor \cdot g / s` rows with g the ``grid_size`` and s the ``stride`` (both default to
    ``kernel_size``; s divides g); float64, float32, float16, bfloat16; the layout is the input's.

    1. A window of ``kernel_size`` cells starts at every cell, cut off at the end: the size stays.
    2. The rows are split into strips of g (the last one takes what is left over), and g / s rows of each strip are
       kept, in their order; columns likewise. All maps of a call share the rows and columns.

    In training those are the rows with the smallest numbers in their strip. ``samples`` holds a number in [0, 1) for
    each row, then for each column; drawn from ``generator`` where not given. Otherwise each strip is cut into g / s
    blocks of rows, which are averaged: for g = s this is the expectation of training.

    Ties: the first cell wins; NaN wins. ``return_switches`` adds `PlacedSwitches`. Under ``torch.compile`` a
    ``generator`` breaks the graph there (``fullgraph=True`` refuses); without one a call is one graph.

    Backward: each gradient goes to its winner (one byte kept); in evaluation it is shared among the rows and columns
    averaged. Deterministic. Raises `GeometryError` for sizes that do not fit.

    Zhai, Wu, Kumar, Cheng, Lu, Zhang, Feris: S3Pool: pooling with stochastic spatial sampling (2017).

    >>> x = torch.arange(16.0).reshape(1, 4, 4)
    >>> rows_0_and_3, columns_0_and_2 = [0.1, 0.9, 0.9, 0.1], [0.1, 0.9, 0.1, 0.9]
    >>> s3_pool2d(x, 2, samples=torch.tensor(rows_0_and_3 + columns_0_and_2))
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    >>> s3_pool2d(x, 2, training=False)
    tensor([[[ 7.5000,  9.0000],
             [13.5000, 15.0000]]])
    """
    return _s3_pool(2, input, kernel_size, stride, grid_size, training, generator, samples, return_switches)


def s3_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    grid_size: IntOrTuple | None = None,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    """Max pooling of a signal at randomly picked places: `s3_pool2d` along one axis.

    >>> s3_pool1d(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), 2, samples=torch.tensor([0.9, 0.1, 0.1, 0.9]))
    tensor([[4., 3.]])
    """
    return _s3_pool(1, input, kernel_size, stride, grid_size, training, generator, samples, return_switches)


def s3_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    grid_size: IntOrTuple | None = None,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    """Max pooling of a volume at randomly picked places: `s3_pool2d` along three axes.

    >>> s3_pool3d(torch.rand(1, 4, 6, 6), 2, grid_size=(4, 2, 6)).shape
    torch.Size([1, 2, 3, 3])
    """
    return _s3_pool(3, input, kernel_size, stride, grid_size, training, generator, samples, return_switches)


def _s3_pool(
    dims: int,
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    grid_size: IntOrTuple | None,
    training: bool,
    generator: torch.Generator | None,
    samples: Tensor | None,
    return_switches: bool,
) -> Pooled:
    check_floats(f"s3_pool{dims}d", input, dims)
    size = tuple(input.shape[-dims:])
    kernel = per_axis("kernel_size", kernel_size, dims)
    step = per_axis("stride", kernel if stride is None else stride, dims)
    grid = per_axis("grid_size", kernel if grid_size is None else grid_size, dims)
    for axis, (h, s, g) in enumerate(zip(size, step, grid, strict=True)):
        if g % s or g > h:
            raise GeometryError(
                f"grid_size {g} along spatial axis {axis} must be a multiple of the stride {s} and at most the {h} "
                "cells of the input"
            )
    strips = [_strips(*axis) for axis in zip(size, step, grid, strict=True)]
    if training:
        numbers = uniform(wide(input), (sum(size),), samples, generator).split(size)
        picked = [_pick(*axis) for axis in zip(numbers, strips, strict=True)]
        values, switches = max_at(input, picked, kernel)
        return (values, switches) if return_switches else values
    if return_switches:
        raise GeometryError("return_switches is set, but in evaluation no cell wins; set training=True")
    pooled = wide(pool(input, window(dims, kernel, 1, tuple((0, r - 1) for r in kernel))))
    for axis, along in enumerate(strips):
        pooled = _averaged(pooled, axis - dims, along)
    return in_layout_of(input, pooled.to(input.dtype))


def _strips(size: int, stride: int, grid: int) -> list[Strip]:
    """First cell, cells and cells to pick of each strip."""
    count = size // grid
    strips = [(i * grid, grid, grid // stride) for i in range(count - 1)]
    return [*strips, ((count - 1) * grid, size - (count - 1) * grid, grid // stride)]


def _pick(numbers: Tensor, strips: Sequence[Strip]) -> Tensor:
    """In each strip the cells with the smallest numbers, in their order."""
    picked = [
        first + stable_sort(numbers[first : first + cells]).indices[:wanted].sort().values
        for first, cells, wanted in strips
    ]
    return torch.cat(picked)


def _averaged(tensor: Tensor, axis: int, strips: Sequence[Strip]) -> Tensor:
    """The mean of each block of cells along an axis; each strip has as many blocks as it has cells to pick."""
    blocks = [
        tensor.narrow(axis, first + i * cells // wanted, (i + 1) * cells // wanted - i * cells // wanted).mean(axis)
        for first, cells, wanted in strips
        for i in range(wanted)
    ]
    return torch.stack(blocks, axis)
