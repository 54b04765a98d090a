"""Pooling over what is no place: the elements of a group, and pieces of a channel."""

from __future__ import annotations

from math import prod
from typing import Literal, TypeAlias

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import is_integer, window
from switchgrad.ops.checks import check_tensor, count
from switchgrad.ops.layout import in_layout_of
from switchgrad.ops.max_pool.autograd import pool
from switchgrad.ops.windows import FLOATS, wide

Group: TypeAlias = Literal["p4", "p4m"]
Over: TypeAlias = Literal["group", "rotations", "mirrors"]
Mode: TypeAlias = Literal["max", "mean"]

_ORDERS = {"p4": 4, "p4m": 8}


def group_pool(input: Tensor, group: Group, over: Over = "group", mode: Mode = "max", dim: int = 2) -> Tensor:
    r"""Maps of a group-equivariant network pooled over the group: what is left does not turn with the picture.

    Shapes: ``input`` is (N, C, G, H, W) with the group along ``dim``: the four turns of "p4", or for "p4m" the four
    turns and then the four turns of the mirror image. Over the whole "group" the axis disappears; over the
    "rotations" of p4m two maps are left (as they are, mirrored), over its "mirrors" four (the turns). float64,
    float32, float16, bfloat16.

    .. math:: y(x) = \max_{h \in H} f(x h) \text{ for the subgroup } H, \text{ or its mean}

    When the input turns by 90 degrees its maps turn and move on by one along the group; the pooled maps over the
    rotations only turn. Ties: the first element; NaN wins (mean: spreads).

    Backward: to the winner, from one byte a pooled cell; the mean shares evenly. Raises `GeometryError` for shapes
    and groups that do not fit.

    Cohen, Welling: Group equivariant convolutional networks (2016), section 6.3.

    >>> import torch
    >>> x = torch.arange(4.0).reshape(1, 1, 4, 1, 1)
    >>> group_pool(x, "p4").item(), group_pool(x, "p4", mode="mean").item()
    (3.0, 1.5)
    >>> group_pool(torch.arange(8.0).reshape(1, 1, 8, 1, 1), "p4m", over="mirrors").flatten()
    tensor([4., 5., 6., 7.])
    """
    order = _ORDERS.get(group)
    if order is None or over not in ("group", "rotations", "mirrors") or mode not in ("max", "mean"):
        raise GeometryError(
            f'group is "{group}", over "{over}", mode "{mode}"; give "p4" or "p4m", "group", "rotations" or "mirrors", '
            '"max" or "mean"'
        )
    if over == "mirrors" and group == "p4":
        raise GeometryError('the group "p4" has no mirrors; pool over the "group"')
    check_tensor(input, "the input of group_pool")
    if not _has_axis(input, dim) or input.shape[dim] != order or input.dtype not in FLOATS:
        raise GeometryError(
            f"the input is {tuple(input.shape)} of {input.dtype}; the group {group} needs {order} maps of "
            f"floating-point numbers along axis {dim}"
        )
    dim %= input.dim()
    if over == "group":
        return _pooled(input, dim, mode)
    parts = input.unflatten(dim, (order // 4, 4))
    return _pooled(parts, dim + 1, mode) if over == "rotations" else _pooled(parts, dim, mode)


def maxout(input: Tensor, pieces: int = 2, dim: int = 1) -> Tensor:
    r"""The largest of each ``pieces`` neighbouring channels.

    Shapes: ``input`` has C channels along ``dim``, the result C / pieces; any other axes. float64, float32, float16,
    bfloat16.

    .. math:: y_c = \max_{0 \le k < \text{pieces}} x_{c \cdot \text{pieces} + k}

    Behind a layer with ``pieces`` times as many maps it is maxout: a convex function that is learned, with no unit
    that can die. Ties: the first channel wins; NaN wins.

    Backward: to the winner alone, from one byte. Raises `GeometryError` where ``pieces`` does not divide the channels.

    Goodfellow, Warde-Farley, Mirza, Courville, Bengio: Maxout networks (2013).

    >>> import torch
    >>> maxout(torch.tensor([[1.0, 4.0, 3.0, 2.0]]))
    tensor([[4., 3.]])
    """
    check_tensor(input, "the input of maxout")
    count(pieces, "pieces")
    if not _has_axis(input, dim) or input.shape[dim] % pieces or input.shape[dim] == 0:
        raise GeometryError(
            f"the input is {tuple(input.shape)}; maxout of {pieces} pieces wants a multiple of {max(pieces, 1)} "
            f"channels along axis {dim}"
        )
    if input.dtype not in FLOATS:
        raise GeometryError(f"the input has dtype {input.dtype}; maxout takes floating-point numbers")
    dim %= input.dim()
    pooled = _pooled(input.unflatten(dim, (input.shape[dim] // pieces, pieces)), dim + 1, "max")
    return in_layout_of(input, pooled)


def _pooled(input: Tensor, dim: int, mode: Mode) -> Tensor:
    """One axis away: by the kernel of max pooling, or by the mean."""
    if mode == "mean":
        return wide(input).mean(dim).to(input.dtype)
    before, after = input.shape[:dim], input.shape[dim + 1 :]
    # Not Size.numel(), which would settle sizes that an exported program leaves open.
    columns = input.reshape(prod(before), 1, input.shape[dim], prod(after))
    if columns.numel() == 0:
        return input.amax(dim)
    return pool(columns, window(2, (input.shape[dim], 1))).reshape(*before, *after)


def _has_axis(input: Tensor, dim: int) -> bool:
    return is_integer(dim) and -input.dim() <= dim < input.dim()
