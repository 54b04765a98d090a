"""Stochastic pooling: the winner is drawn, in proportion to the activations."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.counted import new_seed
from switchgrad.ops.exporting import refuse_while_exporting
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool.autograd import pool_with_codes
from switchgrad.ops.routing import gather
from switchgrad.ops.stochastic.autograd import pool_by_words
from switchgrad.ops.stochastic.draws import uniform
from switchgrad.ops.stochastic.reference import winners
from switchgrad.ops.switches import Switches
from switchgrad.ops.windows import checked_window, wide, windows

Pooled: TypeAlias = Any  # Tensor; with return_switches (Tensor, Switches)


def stochastic_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    r"""One activation of each window, drawn with a probability in proportion to it; on average when not training.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's.

    .. math:: p_i = a_i / \sum_j a_j, \quad \text{training: } y = a_l \text{ with } l \sim P(p), \quad
        \text{else: } y = \sum_i p_i a_i

    Activations are meant to be non-negative (after a ReLU). Negative ones and padded cells have probability 0; in a
    window without a positive one all cells inside the input are equally likely. So evaluation is the expectation of
    training in every case. A window with NaN or +inf gives what max pooling gives. A window that hops over the whole
    input gives 0 and no winner.

    The draw takes the first cell whose running sum exceeds u times the sum. The numbers u are counter-based
    (`switchgrad.ops.counted`): functions of one seed, which comes from ``generator`` (default: PyTorch's), and of the
    window's place; drawn in the kernel, never stored, the same in every layout and with any number of threads. Or give
    ``samples``, numbers in [0, 1) of the pooled shape. Under ``torch.compile`` give samples for eager's result: the
    inductor draws its own seed. A ``generator`` breaks its graph there (``fullgraph=True`` refuses); without
    one a call is one graph. ``return_switches`` adds the `Switches`.

    Backward: the gradient goes to the cell that was drawn (one byte kept); in evaluation
    :math:`\partial y / \partial a_i = (2 a_i - y) / \sum_j a_j`. Raises `GeometryError` for shapes, windows and
    samples that do not fit.

    Zeiler, Fergus: Stochastic pooling for regularization of deep convolutional neural networks (2013).

    >>> x = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    >>> [stochastic_pool2d(x, 2, samples=torch.tensor([[[u]]])).item() for u in (0.2, 0.3)]     # 1 up to 1 / 4, then 3
    [1.0, 3.0]
    >>> stochastic_pool2d(x, 2, training=False)         # (1 * 1 + 3 * 3) / 4
    tensor([[[2.5000]]])
    """
    win = checked_window("stochastic_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _stochastic_pool(input, win, training, generator, samples, return_switches)


def stochastic_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    """One activation of each stretch of a signal, drawn: `stochastic_pool2d` along one axis.

    >>> stochastic_pool1d(torch.tensor([[1.0, 3.0, 0.0, 0.0]]), 2, training=False)
    tensor([[2.5000, 0.0000]])
    """
    win = checked_window("stochastic_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _stochastic_pool(input, win, training, generator, samples, return_switches)


def stochastic_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    """One activation of each box of a volume, drawn: `stochastic_pool2d` along three axes.

    >>> stochastic_pool3d(torch.eye(2).repeat(2, 1, 1)[None], 2, training=False).item()
    1.0
    """
    win = checked_window("stochastic_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _stochastic_pool(input, win, training, generator, samples, return_switches)


def _stochastic_pool(
    input: Tensor,
    win: Window,
    training: bool,
    generator: torch.Generator | None,
    samples: Tensor | None,
    return_switches: bool,
) -> Pooled:
    if not training:
        if return_switches:
            raise GeometryError("return_switches is set, but in evaluation no cell wins; set training=True")
        return in_layout_of(input, _expectation(wide(input), win).to(input.dtype))
    values, codes = _drawn(input, win, generator) if samples is None else _given(input, win, generator, samples)
    return (values, Switches(codes, win, tuple(input.shape[-win.dims :]))) if return_switches else values


def _drawn(input: Tensor, win: Window, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    return pool_by_words("stochastic_pool", input, new_seed(generator, input.device), win)


def _given(input: Tensor, win: Window, generator: torch.Generator | None, samples: Tensor) -> tuple[Tensor, Tensor]:
    """The draw of given numbers, from operators that PyTorch knows."""
    refuse_while_exporting(
        "stochastic pooling by given numbers",
        "it reads the bits of floating-point numbers, and ONNX has no operator for that",
        "call model.eval() before the export",
    )
    with torch.no_grad():
        detached = input.detach()
        best, codes = pool_with_codes(detached, win)
        codes = winners(detached, win, uniform(wide(best), best.shape, samples, generator), best, codes)
    return gather(input, codes, win), codes


def _expectation(input: Tensor, win: Window) -> Tensor:
    """The mean under the probabilities of the draw."""
    laid = windows(input, win, -torch.inf)
    best = laid.amax(-1)
    scale = torch.where((best > 0) & best.isfinite(), best, 1).detach()
    positive = laid.clamp_min(0) / scale.unsqueeze(-1)
    total = positive.sum(-1)
    weighted = scale * ((positive * positive).sum(-1) / torch.where(total > 0, total, 1))
    inside = laid > -torch.inf
    mean = torch.where(inside, laid, 0).sum(-1) / inside.sum(-1).clamp_min(1)
    expected = torch.where(best > 0, weighted, mean)
    return torch.where(best.isnan() | (best == torch.inf), best, expected)
