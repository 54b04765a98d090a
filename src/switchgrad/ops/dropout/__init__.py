"""Dropout whose mask is never stored, alone and behind a bias and a ReLU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.checks import check_tensor, number
from switchgrad.ops.counted import new_seed
from switchgrad.ops.dropout import registration as registration
from switchgrad.ops.dropout.autograd import BiasReLUDropout, Dropout
from switchgrad.ops.override import overridable
from switchgrad.ops.routing import is_transformed

__all__ = ["bias_relu_dropout", "dropout"]


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""Zero each element with probability ``p`` and divide the others by ``1 - p``; in evaluation, ``input`` itself.

    Shapes: any, of float64, float32, float16 or bfloat16; the result has the shape and dtype of the input, and its
    layout where that is contiguous or channels last.

    .. math:: y_i = \frac{x_i}{1 - p} \; [w_i \ge p\, 2^{32}], \qquad w = \mathrm{Threefry}(\text{seed}, i)

    The seed is one int64 number from ``generator`` (default: PyTorch's own of the input's device, so that
    ``torch.manual_seed`` repeats it). The word of an element depends on the seed and the element's place in memory
    alone: the same mask with any number of threads, on every instruction set and on CUDA, and again in backward, which
    keeps the seed and nothing else. Masks are others than ``torch.nn.functional.dropout`` draws from the same seed. A
    dropped element gives 0 even if it is NaN or infinite; p = 1 drops all.

    Backward: the same mask on the gradient; differentiable at every order. Under functorch transforms and forward
    mode it is PyTorch's own dropout. Under ``torch.compile`` a ``generator`` breaks the graph there
    (``fullgraph=True`` refuses); without one a call is one graph. Raises `GeometryError` for a ``p`` outside 0 to 1.

    Srivastava and others: Dropout (2014); Salmon and others: Parallel random numbers: as easy as 1, 2, 3 (2011).

    >>> import torch
    >>> generator = torch.Generator().manual_seed(1)
    >>> dropout(torch.ones(8), 0.5, generator=generator).unique()
    tensor([0., 2.])
    """
    _check(input, p)
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0
    if is_transformed() and not torch.compiler.is_compiling():
        return F.dropout(input, p)
    order, back = _memory_order(input)
    seed = new_seed(generator, input.device)
    return _restored(Dropout.apply(input if order is None else input.permute(order), seed, p), back)


def _in_steps(
    input: Tensor,
    bias: Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    shifted = input if bias is None else input + bias.reshape(-1, *[1] * (input.dim() - 2))
    return dropout(shifted.relu(), p, training, generator=generator)


@overridable(unfused=_in_steps)
def bias_relu_dropout(
    input: Tensor,
    bias: Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``dropout(relu(input + bias), p)`` in one pass: for the end of a layer that left its bias out, or with None.

    Shapes: ``input`` is (N, C, ...), ``bias`` (C) or None; the result is like the input. NaN passes the ReLU. Mask,
    seed and rules as for `dropout`; in evaluation only bias and ReLU are left.

    Backward: the output itself tells what was kept and passed, so nothing else is kept; the bias gets the sum.

    >>> import torch
    >>> bias_relu_dropout(torch.tensor([[-2.0, 2.0]]), torch.tensor([1.0, 1.0]), 0.5, training=False)
    tensor([[0., 3.]])
    """
    _check(input, p)
    if bias is not None:
        check_tensor(bias, "bias")
    if bias is not None and (input.dim() < 2 or tuple(bias.shape) != (input.shape[1],)):
        raise GeometryError(
            f"the bias has shape {tuple(bias.shape)} and the input {tuple(input.shape)}; give one number for each "
            "channel of an input of shape (N, C, ...)"
        )
    if not training or p in (0, 1) or (is_transformed() and not torch.compiler.is_compiling()):
        return _in_steps(input, bias, p, training)
    order, back = _memory_order(input)
    seed = new_seed(generator, input.device)
    if order is None:
        return BiasReLUDropout.apply(input, bias, seed, p, min(1, input.dim() - 1))
    return _restored(BiasReLUDropout.apply(input.permute(order), bias, seed, p, input.dim() - 1), back)


def _memory_order(input: Tensor) -> tuple[list[int] | None, list[int] | None]:
    """The axes of a channels-last tensor as they lie in memory, and the way back; None where they are in order."""
    dims = input.dim()
    if dims not in (4, 5) or input.is_contiguous():
        return None, None
    layout = torch.channels_last if dims == 4 else torch.channels_last_3d
    if not input.is_contiguous(memory_format=layout):
        return None, None
    return [0, *range(2, dims), 1], [0, dims - 1, *range(1, dims - 1)]


def _restored(values: Tensor, back: list[int] | None) -> Tensor:
    return values if back is None else values.permute(back)


def _check(input: Tensor, p: float) -> None:
    check_tensor(input, "the input of dropout")
    if not 0 <= number(p, "p") <= 1:
        raise GeometryError(f"p is {p}; the probability of dropping an element must be from 0 to 1")
    if not input.dtype.is_floating_point:
        raise GeometryError(f"the input has dtype {input.dtype}; dropout takes float64, float32, float16 or bfloat16")
