"""Softmax cross entropy of rows and its gradient: what they mean, in plain PyTorch.

With p = softmax(x), e the smoothing, w the weights of the C classes (default 1) and W their sum, a row of target t has

    loss = (1 - e) w[t] (-log p[t])  +  e / C  sum over c of  w[c] (-log p[c])
    grad = ((1 - e) w[t] + e / C W) p  -  e / C w  -  (1 - e) w[t] at t

and both are 0 for the target that is ignored. The mean divides by the sum of w[t] over the rows that count.
"""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError

NONE, MEAN, SUM = range(3)


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, label_smoothing: float, reduction: int
) -> tuple[Tensor, Tensor]:
    """The loss, reduced, and the gradient of its sum."""
    classes = input.shape[1]
    log = input.double().log_softmax(1)
    w = torch.ones_like(log[0]) if len(log) else log.new_ones(classes)
    w = w if weight is None else weight.double()
    counts = target != ignore_index
    foreign = (counts & ((target < 0) | (target >= classes))).nonzero()
    if len(foreign):
        row = int(foreign[0])
        raise GeometryError(
            f"the target is {int(target[row])} at row {row}, but the input has the classes 0 to {classes - 1}; only "
            f"ignore_index ({ignore_index}) may lie outside"
        )
    place = torch.where(counts, target, 0)
    of_target = (1 - label_smoothing) * w[place]
    losses = -of_target * log.gather(1, place[:, None])[:, 0]
    if label_smoothing > 0:
        losses = losses - label_smoothing / classes * (log * w).sum(1)
    grad = (of_target + label_smoothing / classes * w.sum())[:, None] * log.exp() - label_smoothing / classes * w
    grad = grad.scatter_add(1, place[:, None], -of_target[:, None])
    losses = torch.where(counts, losses, 0)
    divisor = torch.where(counts, w[place], 0).sum() if reduction == MEAN else w.new_ones(())
    loss = losses if reduction == NONE else losses.sum() / divisor
    return loss.to(input.dtype), torch.where(counts[:, None], grad / divisor, 0).to(input.dtype)


def cross_entropy_values(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, label_smoothing: float, reduction: int
) -> Tensor:
    """The loss alone."""
    return cross_entropy(input, target, weight, ignore_index, label_smoothing, reduction)[0]
