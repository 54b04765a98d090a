"""Softmax cross entropy on CUDA, by `cross_entropy_kernels`.

Targets are not looked at beforehand, since the host would have to wait for them: one that is neither a class nor
ignored gives NaN, where the CPU raises.
"""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.gpu import cross_entropy_kernels as kernels
from switchgrad.gpu.blocks import wide_dtype
from switchgrad.gpu.launch import accumulator, launch
from switchgrad.gpu.maps import TILE, power_of_two

NONE, MEAN, SUM = range(3)
_WIDEST = 4096  # classes that a program holds at once


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, label_smoothing: float, reduction: int
) -> tuple[Tensor, Tensor]:
    """The loss, reduced, and the gradient of its sum."""
    grad = input.new_empty(input.shape)
    return _losses(input, target, weight, ignore_index, label_smoothing, reduction, grad), grad


def cross_entropy_values(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, label_smoothing: float, reduction: int
) -> Tensor:
    """The loss alone."""
    return _losses(input, target, weight, ignore_index, label_smoothing, reduction, None)


def _losses(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore: int,
    smoothing: float,
    reduction: int,
    grad: Tensor | None,
) -> Tensor:
    rows, classes = input.shape
    places, weights = target.contiguous(), None if weight is None else weight.contiguous()
    kept = input.dtype if reduction == NONE else wide_dtype(input.dtype)
    losses = input.new_empty(rows, dtype=kept)
    divisor = input.new_empty((), dtype=torch.float64)
    mean = reduction == MEAN
    if mean:
        launch(kernels.counted_weight, (1,), places, weights, divisor, rows, classes, ignore, BLOCK=TILE)
    wide = min(power_of_two(classes), _WIDEST)
    tall = max(TILE // wide, 1)
    launch(
        kernels.rows_of_scores,
        (-(-rows // tall),),
        input,
        places,
        weights,
        divisor,
        losses,
        input if grad is None else grad,
        rows,
        classes,
        ignore,
        input.stride(0),
        input.stride(1),
        SMOOTHING=smoothing,
        MEAN=mean,
        GRAD=grad is not None,
        ACC=accumulator(input.dtype),
        ROWS=tall,
        CLASSES=wide,
    )
    if reduction == NONE:
        return losses
    loss = input.new_empty(())
    acc = accumulator(input.dtype)
    launch(kernels.sum_of_losses, (1,), losses, divisor, loss, rows, MEAN=mean, ACC=acc, BLOCK=TILE)
    return loss
