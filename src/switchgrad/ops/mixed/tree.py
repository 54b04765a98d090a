"""Tree pooling: learned filters, fused by learned gates."""

from __future__ import annotations

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window
from switchgrad.ops.checks import check_tensor
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.mixed.parameters import filtered, masks
from switchgrad.ops.windows import checked_window, wide


def tree_pool2d(
    input: Tensor,
    leaves: Tensor,
    gates: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    r"""A tree over each window: leaves are linear filters, every inner node is a gate that mixes its two children.

    Shapes and window as for `max_pool2d`; float64, float32, float16, bfloat16; the layout is the input's. ``leaves`` is
    :math:`(2^{L-1}, R, S)` and ``gates`` :math:`(2^{L-1} - 1, R, S)` for a tree of L levels, shared by all channels;
    (M, C, R, S) has a tree for each channel. Node m has the children 2 m + 1 and 2 m + 2; the inner nodes come first.

    .. math:: f_m(x) = v_m^T x \text{ at a leaf}, \quad
        f_m(x) = \sigma(\omega_m^T x) f_{2m+1}(x) + (1 - \sigma(\omega_m^T x)) f_{2m+2}(x) \text{ inside}, \; y = f_0(x)

    Padded cells count as 0. With one leaf (no gates) it is a convolution of each map with one filter; with equal
    weights of 1 / (R S) it is average pooling. NaN in a window makes it NaN.

    Backward: through filters and gates, to the input and to their weights. Raises `GeometryError` for shapes and
    windows that do not fit.

    Lee, Gallagher, Tu: Generalizing pooling functions in convolutional neural networks: mixed, gated, and tree (2016),
    section 3.2.

    >>> import torch
    >>> leaves = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])        # first cell, last cell
    >>> tree_pool2d(torch.tensor([[[3.0, 9.0], [0.0, 6.0]]]), leaves, torch.zeros(1, 2, 2), 2)
    tensor([[[4.5000]]])
    """
    win = checked_window("tree_pool", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _tree(input, leaves, gates, win)


def tree_pool1d(
    input: Tensor,
    leaves: Tensor,
    gates: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """A tree over each stretch of a signal: `tree_pool2d` along one axis.

    >>> import torch
    >>> tree_pool1d(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[9.0, 9.0]]), 2)
    tensor([[1.]])
    """
    win = checked_window("tree_pool", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _tree(input, leaves, gates, win)


def tree_pool3d(
    input: Tensor,
    leaves: Tensor,
    gates: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """A tree over each box of a volume: `tree_pool2d` along three axes.

    >>> import torch
    >>> tree_pool3d(torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2, 2), torch.empty(0, 2, 2, 2), 2).item()
    8.0
    """
    win = checked_window("tree_pool", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _tree(input, leaves, gates, win)


def _tree(input: Tensor, leaves: Tensor, gates: Tensor, win: Window) -> Tensor:
    check_tensor(leaves, "leaves")
    check_tensor(gates, "gates")
    count = leaves.shape[0]
    if count < 1 or count & (count - 1) or gates.shape[0] != count - 1:
        raise GeometryError(
            f"there are {count} leaves and {gates.shape[0]} gates; a tree has 1, 2, 4, 8 ... leaves and one gate fewer"
        )
    x = wide(input)
    level = [filtered(x, masks("leaves", leaf, input, win), win) for leaf in leaves]
    while len(level) > 1:
        inner = len(level) // 2
        shares = [
            filtered(x, masks("gates", gate, input, win), win).sigmoid() for gate in gates[inner - 1 : 2 * inner - 1]
        ]
        level = [
            share * left + (1 - share) * right
            for share, left, right in zip(shares, level[::2], level[1::2], strict=True)
        ]
    return in_layout_of(input, level[0].to(input.dtype))
