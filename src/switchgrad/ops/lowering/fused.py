"""Fused blocks in ONNX: the operators that they are made of, which run times fuse again in their own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.geometry import window_of
from switchgrad.ops.conv_pool.reference import padded
from switchgrad.ops.cross_entropy.reference import MEAN, NONE
from switchgrad.ops.exporting import AT_RANDOM, refuse
from switchgrad.ops.lowering.maximum import codes, rectified, values


def _conv_max_pool(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    window: list[int],
    relu: bool,
) -> tuple[Tensor, Tensor]:
    win = window_of(window)
    top, bottom, left, right = padding
    if (top, left) == (bottom, right):
        convolved = functional.conv2d(input, weight, bias, stride, (top, left))
    else:
        convolved = functional.conv2d(padded(input, padding), weight, bias, stride)
    return rectified(convolved, win) if relu else (values(convolved, win), codes(convolved, win))


def _winograd_conv(
    input: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], relu: bool, _: int
) -> Tensor:
    """How a convolution is computed is the run time's choice."""
    convolved = functional.conv2d(input, weight, bias, padding=padding)
    return convolved.relu() if relu else convolved


def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """The normalised numbers before the ReLU, and the statistics."""
    if training or mean is None or var is None:
        refuse(
            "batch normalisation in training",
            "its statistics are the batch's and move with every batch",
            "call model.eval() before the export",
        )
    normalised = functional.batch_norm(input, mean, var, weight, bias, False, 0.0, eps)
    return normalised, torch.stack([mean.double(), var.double()])


def _batch_norm_relu(*args: Any) -> tuple[Tensor, Tensor]:
    normalised, statistics = _batch_norm(*args)
    return normalised.relu(), statistics


def _batch_norm_relu_max_pool(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    normalised, statistics = _batch_norm(*args[:7])
    return (*rectified(normalised, window_of(args[7])), statistics)


def _batch_norm_relu_max_pool_values(*args: Any) -> tuple[Tensor, Tensor]:
    pooled, _, statistics = _batch_norm_relu_max_pool(*args)
    return pooled, statistics


def _dropout(*_: Any) -> NoReturn:
    refuse(
        "dropout in training",
        "its masks are drawn anew at every call",
        "call model.eval() before the export, or give training=False",
    )


def _random(*_: Any) -> NoReturn:
    refuse(*AT_RANDOM)


def _losses(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, label_smoothing: float, reduction: int
) -> tuple[Tensor, Tensor]:
    """The loss and its gradient, written out: the exporter passes over the smoothing of PyTorch's own."""
    classes = input.shape[1]
    log = input.log_softmax(1)
    w = torch.ones_like(log[0]) if weight is None else weight.to(log.dtype)
    counts = target != ignore_index
    place = torch.where(counts, target, 0)
    of_target = (1 - label_smoothing) * w[place]
    shared = label_smoothing / classes * w
    losses = torch.where(counts, -of_target * log.gather(1, place[:, None])[:, 0] - (log * shared).sum(1), 0)
    grad = (of_target + shared.sum())[:, None] * log.exp() - shared
    grad = grad.scatter_add(1, place[:, None], -of_target[:, None])
    divisor = torch.where(counts, w[place], 0).sum() if reduction == MEAN else w.new_ones(())
    loss = losses if reduction == NONE else losses.sum() / divisor
    return loss, torch.where(counts[:, None], grad / divisor, 0)


def _loss(*args: Any) -> Tensor:
    return _losses(*args)[0]


LOWERED: dict[str, Callable[..., Any]] = {
    "conv_max_pool": _conv_max_pool,
    "winograd_conv": _winograd_conv,
    "batch_norm_relu": _batch_norm_relu,
    "batch_norm_relu_max_pool": _batch_norm_relu_max_pool,
    "batch_norm_relu_max_pool_values": _batch_norm_relu_max_pool_values,
    "stochastic_pool": _random,
    "max_pool_dropout": _random,
    "dropout": _dropout,
    "bias_relu_dropout": _dropout,
    "cross_entropy": _losses,
    "cross_entropy_values": _loss,
}
