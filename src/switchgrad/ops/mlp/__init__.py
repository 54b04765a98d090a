"""Fully connected layers one behind the other with a ReLU between two, in one call forward and one backward."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor
from switchgrad.ops.fully_connected import linear, linear_relu
from switchgrad.ops.fully_connected.choice import is_beyond_kernels, obstacle
from switchgrad.ops.mlp import registration as registration
from switchgrad.ops.mlp.autograd import Mlp
from switchgrad.ops.override import overridable

__all__ = ["mlp"]

# Measured: with more rows PyTorch's products are as quick, and with weights of so many numbers threads that go through
# all of them for some rows each wait for memory.
_MOST_ROWS = 1024
TOO_LARGE = 1 << 20


def _in_steps(
    input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None] | None = None, *, flatten: bool = False
) -> Tensor:
    """What `mlp` is made of."""
    shifts = _checked(weights, biases)
    input = input.flatten(1) if flatten else input
    for weight, bias in zip(weights[:-1], shifts[:-1], strict=True):
        input = linear_relu(input, weight, bias)
    return linear(input, weights[-1], shifts[-1])


@overridable(unfused=_in_steps)
def mlp(
    input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None] | None = None, *, flatten: bool = False
) -> Tensor:
    r"""A multilayer perceptron: fully connected layers, with a ReLU behind each but the last.

    Shapes: ``input`` (..., K), the weight of a layer (outputs, inputs), its bias (outputs) or None, where a layer's
    inputs are the outputs of the one before; the result (..., N) with the last layer's outputs. ``biases`` left out
    are all None. With ``flatten`` everything behind the input's first axis is one row, as ``input.flatten(1)`` says;
    maps channels last are laid row by row on the way, which takes a fraction of PyTorch's copy.

    .. math:: h_0 = x, \quad h_l = \max(h_{l-1} W_l^\top + b_l,\ 0), \quad y = h_{L-1} W_L^\top + b_L

    In float32 and float64 on the CPU, up to 1,024 rows go through layers of fewer than 2^20 weights each by kernels of
    their own: vectors of rows are turned over once and go through all layers, and on the way back groups of rows go
    down through all of them before every weight's gradient is made. So a step has one call and one node on the tape
    each way, where small layers spend as long between their products as in them. Everything else is `linear_relu`
    and `linear`, layer by layer.

    Rounding: sums are taken in blocks of 128 and then over blocks, and err no more than PyTorch's. NaN passes the ReLU
    and goes where the sums lead it; the gradient of the ReLU at 0 is 0.

    Backward: the gradients of the input and of each weight and bias, only those that are needed and no further down
    than they are. Kept for it: input, parameters and the hidden layers' outputs. Deterministic, whatever the number of
    threads. Twice differentiable; forward mode, ``torch.func`` and autocast use PyTorch's products.

    Raises `GeometryError` for an input that is no tensor, without a layer, and where there are not as many biases as
    weights.

    >>> import torch
    >>> w, v = torch.tensor([[1.0, 2.0], [1.0, -2.0]]), torch.tensor([[1.0, 10.0]])
    >>> mlp(torch.ones(3, 2), [w, v], [None, torch.tensor([0.5])])
    tensor([[3.5000],
            [3.5000],
            [3.5000]])
    """
    check_tensor(input, "the input")
    shifts = _checked(weights, biases)
    maps = flatten and input.dim() == 4
    if flatten and not maps:
        input = input.flatten(1)
    if len(weights) == 1 or not _is_served(input, weights, shifts, maps):
        return _in_steps(input, weights, shifts, flatten=maps)
    if maps or input.dim() == 2:
        return _served(input, weights, shifts)
    rows = input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
    values = _served(rows, weights, shifts)
    return values.reshape(*input.shape[:-1], values.shape[-1])


def _checked(weights: Sequence[Tensor], biases: Sequence[Tensor | None] | None) -> Sequence[Tensor | None]:
    if not weights:
        raise GeometryError("weights is empty; give the weight of one layer at least")
    if biases is None:
        return [None] * len(weights)
    if len(biases) != len(weights):
        raise GeometryError(
            f"there are {len(weights)} weights and {len(biases)} biases; give one bias for each weight, or None for it"
        )
    return biases


def _is_served(input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], maps: bool) -> bool:
    if input.dim() < 1 or is_beyond_kernels():
        return False
    width = math.prod(input.shape[1:]) if maps else input.shape[-1]
    if input.numel() > _MOST_ROWS * max(width, 1):
        return False
    for weight, bias in zip(weights, biases, strict=True):
        if obstacle(input, weight) is not None or weight.dim() != 2 or weight.shape[1] != width:
            return False
        width = weight.shape[0]
        if weight.numel() >= TOO_LARGE:
            return False
        if bias is not None and (bias.dim() != 1 or bias.shape[0] != width or bias.dtype != input.dtype):
            return False
    return True


def _served(input: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        parameters = [t for pair in zip(weights, biases, strict=True) for t in pair]
        if torch.compiler.is_compiling() or any(t is not None and t.requires_grad for t in (input, *parameters)):
            return Mlp.apply(input, *parameters)
    return torch.ops.switchgrad.mlp(input, weights, biases, False)[0]
