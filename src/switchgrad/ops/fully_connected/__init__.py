"""Fully connected layers, alone or with a ReLU behind them: thin batches in one pass over the weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.fully_connected import registration as registration
from switchgrad.ops.fully_connected.autograd import Linear
from switchgrad.ops.fully_connected.choice import (
    Algorithm,
    check_algorithm,
    is_beyond_kernels,
    is_streamed,
    obstacle,
)
from switchgrad.ops.override import overridable

__all__ = ["linear", "linear_relu", "why_not_streamed"]


@overridable()
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, algorithm: Algorithm = "auto") -> Tensor:
    r"""``torch.nn.functional.linear``, quicker for thin batches through large weights.

    Shapes: ``input`` (..., K), ``weight`` (N, K), ``bias`` (N) or None, the result (..., N).

    .. math:: y_{m,n} = b_n + \sum_k x_{m,k}\, w_{n,k}

    Where a batch has few rows, reading the weight is most of the work. In float32 and float64 on the CPU, forward and
    both gradients then go once through the weight as it lies in memory: forward reads its rows, each number meeting
    vectors of the batch; the gradient of the input adds up rows of the weight; that of the weight is written row by
    row. ``algorithm`` says what is used: ``"auto"`` decides by the sizes, as they were measured; ``"streamed"`` asks
    for these kernels; ``"direct"`` is PyTorch's product, which also serves every call that they cannot
    (`why_not_streamed` says why).

    Rounding: sums over K are taken in blocks of 128 and then over blocks, and err no more than PyTorch's. NaN and
    infinities go where the sums lead them.

    Backward: :math:`\partial x = g W`, :math:`\partial w = g^\top x`, :math:`\partial b = \sum_m g_m`, only those that
    are needed. Deterministic, whatever the number of threads. Twice differentiable; forward mode, ``torch.func`` and
    autocast use PyTorch's products.

    Raises `GeometryError` for an unknown algorithm, or one that was asked for by name and cannot serve the call.

    >>> import torch
    >>> linear(torch.ones(1, 3), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), torch.tensor([0.5, 0.0]))
    tensor([[6.5000, 1.0000]])
    >>> x, w = torch.rand(16, 300), torch.rand(40, 300, requires_grad=True)
    >>> y = linear(x, w, algorithm="streamed")
    >>> torch.allclose(y, torch.nn.functional.linear(x, w), rtol=1e-4)
    True
    >>> y.sum().backward()
    >>> w.grad.shape
    torch.Size([40, 300])
    """
    return _connected(input, weight, bias, algorithm, False)


def _in_steps(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, algorithm: Algorithm = "auto") -> Tensor:
    """What `linear_relu` is made of, for modes that change its parts."""
    return F.relu(linear(input, weight, bias, algorithm=algorithm))


@overridable(unfused=_in_steps)
def linear_relu(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, algorithm: Algorithm = "auto") -> Tensor:
    """``relu(linear(input, weight, bias))``: the ReLU where the sums are written, and where their gradient is read.

    Shapes, arguments, rounding and errors as for `linear`. NaN passes, as in PyTorch; the gradient at 0 is 0. Kept for
    the backward: input, weight and output.

    >>> import torch
    >>> linear_relu(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [1.0, -2.0]]))
    tensor([[3., 0.]])
    """
    return _connected(input, weight, bias, algorithm, True)


def why_not_streamed(input: Tensor, weight: Tensor) -> str | None:
    """Why the kernels cannot serve a call with these tensors; None where they can.

    >>> import torch
    >>> why_not_streamed(torch.rand(4, 8).half(), torch.rand(3, 8).half())
    'the kernels take float32 or float64, and these are torch.float16 and torch.float16'
    >>> why_not_streamed(torch.rand(4, 8), torch.rand(3, 8)) is None
    True
    """
    return obstacle(input, weight)


def _connected(input: Tensor, weight: Tensor, bias: Tensor | None, algorithm: Algorithm, relu: bool) -> Tensor:
    check_algorithm(algorithm)
    found = obstacle(input, weight)
    if found is not None and algorithm == "streamed":
        raise GeometryError(f'algorithm is "{algorithm}", and {found}; give "auto" or "direct"')
    if found is None and _fits(input, weight, bias) and not is_beyond_kernels():
        rows = input.numel() // max(input.shape[-1], 1)
        if is_streamed(rows, weight, algorithm):
            if input.dim() == 2:
                return _streamed(input, weight, bias, relu)
            flat = input.reshape(input.shape[:-1].numel(), input.shape[-1])
            return _streamed(flat, weight, bias, relu).reshape(*input.shape[:-1], weight.shape[0])
    values = F.linear(input, weight, bias)
    return F.relu(values) if relu else values


def _streamed(input: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    watched = torch.compiler.is_compiling() or (
        torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias))
    )
    call = Linear.apply if watched else torch.ops.switchgrad.linear
    return call(input, weight, bias, relu)


def _fits(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether PyTorch would take these shapes; what it refuses, it refuses in its own words."""
    return (
        input.dim() >= 1
        and weight.dim() == 2
        and weight.shape[1] == input.shape[-1]
        and (bias is None or (tuple(bias.shape) == tuple(weight.shape[:1]) and bias.dtype == input.dtype))
    )
