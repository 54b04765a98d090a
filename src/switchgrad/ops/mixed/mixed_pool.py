"""Mixed and gated max-average pooling: how much of each is learned."""

from __future__ import annotations

from torch import Tensor

from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool.autograd import pool
from switchgrad.ops.mixed.parameters import filtered, masks, proportions
from switchgrad.ops.window_sums import window_means
from switchgrad.ops.windows import checked_window, wide


def mixed_pool2d(
    input: Tensor,
    mixing: Tensor | float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""Max pooling and average pooling of each window, mixed in a learned proportion.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's. ``mixing`` is
    one proportion for all windows (a number or a tensor without axes), one a channel (C), or any shape that broadcasts
    to (C, P, Q): one a region (1, P, Q), one a region and channel. It is used as it is; it is meant to be in [0, 1].

    .. math:: y = a \max_i x_i + (1 - a) \tfrac{1}{n} \sum_i x_i

    Padded cells take no part: the average is over the n cells inside the input (a window without any gives NaN).
    Ties: the first maximum. NaN in a window makes it NaN, and so does an infinity of which nothing is taken (0 times
    infinity).

    Backward: :math:`a g` to the winner and :math:`(1 - a) g / n` to every cell; the proportion gets g times maximum
    less average. Raises `GeometryError` for shapes and windows that do not fit.

    Lee, Gallagher, Tu: Generalizing pooling functions in convolutional neural networks: mixed, gated, and tree (2016),
    section 3.1.

    >>> import torch
    >>> mixed_pool2d(torch.tensor([[[3.0, 9.0], [0.0, 6.0]]]), 0.25, 2)        # 9 / 4 + 4.5 * 3 / 4
    tensor([[[5.6250]]])
    """
    win = checked_window("mixed_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _mixed(input, proportions(mixing, input, win), win)


def mixed_pool1d(
    input: Tensor,
    mixing: Tensor | float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Max and average pooling of a signal, mixed: `mixed_pool2d` along one axis.

    >>> import torch
    >>> mixed_pool1d(torch.tensor([[1.0, 3.0], [0.0, 8.0]]), torch.tensor([0.0, 1.0]), 2)
    tensor([[2.],
            [8.]])
    """
    win = checked_window("mixed_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _mixed(input, proportions(mixing, input, win), win)


def mixed_pool3d(
    input: Tensor,
    mixing: Tensor | float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Max and average pooling of a volume, mixed: `mixed_pool2d` along three axes.

    >>> import torch
    >>> mixed_pool3d(torch.arange(8.0).reshape(1, 2, 2, 2), 0.5, 2).item()
    5.25
    """
    win = checked_window("mixed_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _mixed(input, proportions(mixing, input, win), win)


def gated_pool2d(
    input: Tensor,
    gate: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""Max pooling and average pooling of each window, mixed by a gate that looks at the window.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's. ``gate`` has
    a weight for each cell of a window: (R, S) for all windows, (C, R, S) a channel, or any leading axes that broadcast
    to (C, P, Q).

    .. math:: y = \sigma(\omega^T x) \max_i x_i + (1 - \sigma(\omega^T x)) \tfrac{1}{n} \sum_i x_i

    Padded cells take no part: they count as 0 for the gate, and the average is over the n cells inside the input. Ties:
    the first maximum. NaN in a window makes it NaN.

    Backward: through maximum, average and gate, to the input and to the gate's weights. Raises `GeometryError` for
    shapes and windows that do not fit.

    Lee, Gallagher, Tu: Generalizing pooling functions in convolutional neural networks: mixed, gated, and tree (2016),
    section 3.1.

    >>> import torch
    >>> x = torch.tensor([[[3.0, 9.0], [0.0, 6.0]]])
    >>> gated_pool2d(x, torch.zeros(2, 2), 2), gated_pool2d(x, torch.full((2, 2), 5.0), 2)      # halfway; all maximum
    (tensor([[[6.7500]]]), tensor([[[9.]]]))
    """
    win = checked_window("gated_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _mixed(input, _gate(input, gate, win), win)


def gated_pool1d(
    input: Tensor,
    gate: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Max and average pooling of a signal, mixed by a gate: `gated_pool2d` along one axis.

    >>> import torch
    >>> gated_pool1d(torch.tensor([[1.0, 3.0]]), torch.zeros(2), 2)
    tensor([[2.5000]])
    """
    win = checked_window("gated_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _mixed(input, _gate(input, gate, win), win)


def gated_pool3d(
    input: Tensor,
    gate: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Max and average pooling of a volume, mixed by a gate: `gated_pool2d` along three axes.

    >>> import torch
    >>> gated_pool3d(torch.arange(8.0).reshape(1, 2, 2, 2), torch.zeros(2, 2, 2), 2).item()
    5.25
    """
    win = checked_window("gated_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _mixed(input, _gate(input, gate, win), win)


def _gate(input: Tensor, gate: Tensor, win: Window) -> Tensor:
    return filtered(wide(input), masks("gate", gate, input, win), win).sigmoid()


def _mixed(input: Tensor, share: Tensor, win: Window) -> Tensor:
    average = window_means(wide(input), win)
    # Written so that both kinds come out exactly where the share is 0 or 1.
    mixed = share * wide(pool(input, win)) + (1 - share) * average
    return in_layout_of(input, mixed.to(input.dtype))
