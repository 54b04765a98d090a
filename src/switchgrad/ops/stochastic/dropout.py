"""Max-pooling dropout: activations are dropped at random before they compete."""

from __future__ import annotations

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.checks import probability
from switchgrad.ops.counted import new_seed
from switchgrad.ops.layout import in_layout_of, no_winner
from switchgrad.ops.max_pool.autograd import pool_with_codes
from switchgrad.ops.routing import gather
from switchgrad.ops.stochastic.autograd import pool_by_words
from switchgrad.ops.stochastic.draws import uniform
from switchgrad.ops.stochastic.stochastic_pool import Pooled
from switchgrad.ops.switches import Switches
from switchgrad.ops.windows import checked_window, wide, windows


def max_pool_dropout2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    r"""Max pooling of what is left after each activation was dropped with probability ``p``; on average otherwise.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's. ``p`` is
    the probability to drop, as in ``torch.nn.Dropout``; the paper's retaining probability is :math:`1 - p`. Nothing
    is scaled up in training.

    .. math:: \text{training: } y = \max_i m_i a_i, \; m_i \sim \text{Bernoulli}(1 - p), \quad
        \text{else: } y = \sum_i (1 - p) p^{n - i} a_{(i)}, \; a_{(1)} \le \dots \le a_{(n)}

    Overlapping windows share the mask of the cells they share. Activations are meant to be non-negative: a dropped
    cell counts as 0 and beats negative ones, as the formula says; evaluation is the expectation of training for every
    sign (where no activation is positive: :math:`(1 - p)^n a_{(n)}`). Padded cells take no part and are not counted
    in n. NaN that is kept wins; in evaluation it makes its window NaN.

    A cell is dropped where its number is below ``p``. The numbers are counter-based (`switchgrad.ops.counted`): known
    by the cell's place and a seed, which comes from ``generator`` (default: PyTorch's); drawn in the kernel, never
    stored, the same in every layout and with any number of threads. `dropout` of a contiguous input with the same seed
    drops the same cells. Or give ``samples``, numbers in [0, 1) of the input's shape. Under ``torch.compile`` give
    samples for eager's result: the inductor draws its own seed. A ``generator`` breaks its graph there
    (``fullgraph=True`` refuses); without one a call is one graph. ``return_switches`` adds the `Switches`; a window
    whose largest is a dropped cell has no winner (255).

    Backward: the gradient goes to the winner, nowhere where a dropped cell won (one byte kept, not the mask); in
    evaluation each cell gets its weight. Raises `GeometryError` for shapes, windows, samples and ``p`` that do not fit.

    Wu, Gu: Towards dropout training for convolutional neural networks (2015), sections 3 and 4.

    >>> x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> max_pool_dropout2d(x, 2, samples=torch.tensor([[[0.9, 0.9], [0.9, 0.1]]]))
    tensor([[[3.]]])
    >>> max_pool_dropout2d(x, 2, training=False)            # 4 / 2 + 3 / 4 + 2 / 8 + 1 / 16
    tensor([[[3.0625]]])
    """
    win = checked_window("max_pool_dropout", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool_dropout(input, win, p, training, generator, samples, return_switches)


def max_pool_dropout1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    """Max pooling after dropout of a signal: `max_pool_dropout2d` along one axis.

    >>> max_pool_dropout1d(torch.tensor([[2.0, 4.0]]), 2, training=False)
    tensor([[2.5000]])
    """
    win = checked_window("max_pool_dropout", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool_dropout(input, win, p, training, generator, samples, return_switches)


def max_pool_dropout3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
    samples: Tensor | None = None,
    return_switches: bool = False,
) -> Pooled:
    """Max pooling after dropout of a volume: `max_pool_dropout2d` along three axes.

    >>> max_pool_dropout3d(torch.ones(1, 2, 2, 2), 2, p=0.0).item()
    1.0
    """
    win = checked_window("max_pool_dropout", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool_dropout(input, win, p, training, generator, samples, return_switches)


def _max_pool_dropout(
    input: Tensor,
    win: Window,
    p: float,
    training: bool,
    generator: torch.Generator | None,
    samples: Tensor | None,
    return_switches: bool,
) -> Pooled:
    probability("p", p)
    if not training:
        if return_switches:
            raise GeometryError("return_switches is set, but in evaluation no cell wins; set training=True")
        return in_layout_of(input, _expectation(wide(input), win, p).to(input.dtype))
    values, codes = _pooled(input, win, p, generator, samples)
    return (values, Switches(codes, win, tuple(input.shape[-win.dims :]))) if return_switches else values


def _pooled(
    input: Tensor, win: Window, p: float, generator: torch.Generator | None, samples: Tensor | None
) -> tuple[Tensor, Tensor]:
    if samples is None and p < 1:
        return pool_by_words("max_pool_dropout", input, new_seed(generator, input.device), win, p)
    with torch.no_grad():
        numbers = input.new_zeros(input.shape) if samples is None else samples
        generator = None if samples is None else generator
        kept = in_layout_of(input, uniform(wide(input), input.shape, numbers, generator) >= p)
        _, codes = pool_with_codes(torch.where(kept, input.detach(), 0), win)
        won = gather(kept.to(torch.uint8), codes, win)
        codes = torch.where(won > 0, codes, no_winner(codes.dtype))
    return gather(input, codes, win), codes


def _expectation(input: Tensor, win: Window, p: float) -> Tensor:
    """The mean of the training rule over all masks: each value times the chance that it is the largest left."""
    laid = windows(input, win, -torch.inf)
    count = (laid > -torch.inf).sum(-1)
    ordered = laid.sort(-1, descending=True).values
    weights = (1 - p) * p ** torch.arange(win.cells, dtype=torch.float64, device=input.device)
    positive = (ordered.clamp_min(0) * weights.to(input)).sum(-1)
    largest = ordered[..., 0]
    none = torch.where(largest == -torch.inf, 0, largest) * (1 - p) ** count.to(input.dtype)
    return torch.where(largest > 0, positive, none)
