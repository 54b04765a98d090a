"""Batch normalisation, ReLU and max pooling in one: what they mean, in plain PyTorch.

For each channel, over batch and space (``M`` cells)::

    mean, var = of the input, var divided by M      in training; the running ones in evaluation
    z = (x - mean) * weight / sqrt(var + eps) + bias
    y = relu(z)                                     NaN passes

and backward, with dz the gradient behind the ReLU and xhat = (x - mean) / sqrt(var + eps)::

    dbias = sum(dz)        dweight = sum(dz * xhat)
    dx = weight / sqrt(var + eps) * (dz - [dbias + xhat * dweight] / M)       the bracket in training only

Statistics are two rows of float64: the means, then the variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool.reference import max_pool_route
from switchgrad.ops.relu_max_pool.reference import relu_max_pool

Optional = Tensor | None


def statistics_of(input: Tensor, mean: Optional, var: Optional, training: bool) -> Tensor:
    """Means and variances in float64."""
    if mean is not None and var is not None and not training:
        return torch.stack([mean.double(), var.double()])
    axes = [axis for axis in range(input.dim()) if axis != 1]
    x = input.double()
    return torch.stack([x.mean(axes), x.var(axes, correction=0)])


def _along_channels(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers.reshape(-1, *[1] * (like.dim() - 2)).to(
        torch.float64 if like.dtype == torch.float64 else torch.float32
    )


def _scale(weight: Optional, statistics: Tensor, eps: float) -> Tensor:
    scale = (statistics[1] + eps).rsqrt()
    return scale if weight is None else scale * weight.double()


def normalised(input: Tensor, weight: Optional, bias: Optional, statistics: Tensor, eps: float) -> Tensor:
    """What goes into the ReLU, rounded to the input's dtype."""
    shift = torch.zeros_like(statistics[0]) if bias is None else bias.double()
    mean, scale, shift = (_along_channels(n, input) for n in (statistics[0], _scale(weight, statistics, eps), shift))
    return ((input - mean) * scale + shift).to(input.dtype)


def batch_norm_relu(
    input: Tensor, weight: Optional, bias: Optional, mean: Optional, var: Optional, training: bool, eps: float
) -> tuple[Tensor, Tensor]:
    """Activations and statistics."""
    statistics = statistics_of(input, mean, var, training)
    return in_layout_of(input, normalised(input, weight, bias, statistics, eps).relu()), statistics


def batch_norm_relu_max_pool(
    input: Tensor,
    weight: Optional,
    bias: Optional,
    mean: Optional,
    var: Optional,
    training: bool,
    eps: float,
    window: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled values, switches and statistics."""
    statistics = statistics_of(input, mean, var, training)
    z = normalised(input, weight, bias, statistics, eps)
    values, codes = relu_max_pool(z, window)
    return in_layout_of(input, values), in_layout_of(input, codes), statistics


def batch_norm_relu_max_pool_values(*args: Any) -> tuple[Tensor, Tensor]:
    """Pooled values and statistics."""
    values, _, statistics = batch_norm_relu_max_pool(*args)
    return values, statistics


def _gradients(
    dz: Tensor, input: Tensor, weight: Optional, bias: Optional, statistics: Tensor, training: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = [axis for axis in range(input.dim()) if axis != 1]
    shape = (-1, *[1] * (input.dim() - 2))
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    dz = dz.double()
    xhat = (input.double() - statistics[0].reshape(shape)) * (statistics[1] + eps).rsqrt().reshape(shape)
    of_bias, of_weight = dz.sum(axes), (dz * xhat).sum(axes)
    if training:
        dz = dz - (of_bias.reshape(shape) + xhat * of_weight.reshape(shape)) / (input.numel() // input.shape[1])
    dx = (_scale(weight, statistics, eps).reshape(shape) * dz).to(input.dtype)
    return (
        in_layout_of(input, dx),
        of_weight.to(wide if weight is None else weight.dtype),
        of_bias.to(wide if bias is None else bias.dtype),
    )


def batch_norm_relu_backward(
    grad: Tensor,
    input: Tensor,
    weight: Optional,
    bias: Optional,
    statistics: Tensor,
    training: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias; the ReLU's mask is found from the input again."""
    z = normalised(input, weight, bias, statistics, eps)
    return _gradients(torch.where(z <= 0, 0, grad), input, weight, bias, statistics, training, eps)


def batch_norm_relu_max_pool_backward(
    grad: Tensor,
    input: Tensor,
    codes: Tensor,
    weight: Optional,
    bias: Optional,
    statistics: Tensor,
    training: bool,
    eps: float,
    window: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias; only winners have any of their own."""
    dz = max_pool_route(grad, codes, input.shape[-2:], window)
    return _gradients(dz, input, weight, bias, statistics, training, eps)


def batch_norm_move(mean: Tensor, var: Tensor, statistics: Tensor, momentum: float, count: int) -> None:
    """The running statistics take a step towards those of the batch, the variance unbiased."""
    mean.mul_(1 - momentum).add_(statistics[0], alpha=momentum)
    var.mul_(1 - momentum).add_(statistics[1], alpha=momentum * count / (count - 1))
