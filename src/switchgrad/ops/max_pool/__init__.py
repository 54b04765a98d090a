"""Max pooling with switches, in one, two and three dimensions: drop-in for ``torch.nn.functional``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, Padding, Window, fitting, remembered
from switchgrad.ops.checks import check_map_tensor, check_tensor
from switchgrad.ops.max_pool import registration as registration  # what the operators mean on every device
from switchgrad.ops.max_pool.autograd import pool, pool_with_codes
from switchgrad.ops.override import overridable
from switchgrad.ops.switches import Switches

__all__ = ["max_pool1d", "max_pool2d", "max_pool3d"]

# Tensor; with return_indices (Tensor, Tensor); with return_switches (Tensor, Switches).
Pooled: TypeAlias = Any


@overridable()
def max_pool2d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    return_switches: bool = False,
) -> Pooled:
    r"""The largest value of each window, and on demand where it stood.

    Shapes: ``input`` is :math:`(N, C, H, W)` or :math:`(C, H, W)`, the result :math:`(N, C, P, Q)` or
    :math:`(C, P, Q)` with :math:`P = \lfloor (H + b + e - d (R - 1) - 1) / s \rfloor + 1` (rounded up with
    ``ceil_mode``, unless the last window would start in the padding at the end). Layout and dtype are the input's;
    float64, float32, float16, bfloat16, and forward also uint8, int8, int16, int32 and int64.

    .. math:: y_{n,c,p,q} = \max_{r,t} x_{n,c,\; p s + r d - b,\; q s + t d - b}

    ``kernel_size``, ``stride`` (default ``kernel_size``) and ``dilation``: an integer or one per axis. ``padding``: an
    integer, one per axis, a ``(begin, end)`` pair per axis, ``"same"`` (:math:`P = \lceil H / s \rceil`, as in Keras)
    or ``"valid"``; up to the window's span less one on each side (PyTorch stops at half the kernel). Padded cells
    never win. ``return_indices`` adds PyTorch's flat int64 indices, ``return_switches`` our `Switches`, eight times
    smaller.

    Ties: the first cell in row-major order wins. NaN wins; of several NaN the last. A window that dilation lets hop
    over the whole input gives -inf and no winner (PyTorch's index then points outside the input, and its backward
    writes there).

    Backward: :math:`\partial L / \partial x` is the sum of :math:`\partial L / \partial y` over the windows that the
    cell won, 0 elsewhere; deterministic, in the layout of the input, from one saved byte a pooled cell. Twice
    differentiable, forward mode, vmap, ``torch.compile`` and ``torch.export`` work.

    Raises `GeometryError` (a ``ValueError`` and ``RuntimeError``) for shapes and windows that do not fit.

    Scherer, Mueller, Behnke: Evaluation of pooling operations in convolutional architectures (2010); the switches are
    those of Zeiler and Fergus: Visualizing and understanding convolutional networks (2014).

    >>> import torch
    >>> x = torch.tensor([[[3.0, 9.0], [0.0, 6.0]]], requires_grad=True)
    >>> y = max_pool2d(x, 2)
    >>> y.backward()
    >>> y.item(), x.grad.tolist()
    (9.0, [[[0.0, 1.0], [0.0, 0.0]]])
    >>> max_pool2d(torch.rand(1, 3, 224, 224), 3, stride=2, padding="same").shape
    torch.Size([1, 3, 112, 112])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, return_switches)


@overridable()
def max_pool1d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    return_switches: bool = False,
) -> Pooled:
    """The largest value of each stretch of a signal: `max_pool2d` along one axis.

    Shapes: ``input`` is (N, C, L) or (C, L), the result (N, C, P) or (C, P). Arguments, ties, NaN, backward and
    errors as for `max_pool2d`.

    >>> import torch
    >>> max_pool1d(torch.tensor([[1.0, 4.0, 4.0, 2.0, 7.0]]), 2, return_indices=True)
    (tensor([[4., 4.]]), tensor([[1, 2]]))
    >>> max_pool1d(torch.tensor([[1.0, 4.0, 4.0, 2.0, 7.0]]), 2, ceil_mode=True)
    tensor([[4., 4., 7.]])
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, return_switches)


@overridable()
def max_pool3d(
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    return_switches: bool = False,
) -> Pooled:
    """The largest value of each box of a volume: `max_pool2d` along three axes.

    Shapes: ``input`` is (N, C, D, H, W) or (C, D, H, W), the result the same with pooled axes. Arguments, ties, NaN,
    backward and errors as for `max_pool2d`; deterministic, which PyTorch's own is not on CUDA.

    >>> import torch
    >>> volume = torch.arange(27.0).reshape(1, 3, 3, 3)
    >>> max_pool3d(volume, 2, stride=1).flatten().tolist()
    [13.0, 14.0, 16.0, 17.0, 22.0, 23.0, 25.0, 26.0]
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, return_switches)


def _max_pool(
    dims: int,
    input: Tensor,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    dilation: IntOrTuple,
    ceil_mode: bool,
    return_indices: bool,
    return_switches: bool,
) -> Pooled:
    check_map_tensor(input, "max_pool", dims)
    win = _window(dims, input.shape, input.dtype, kernel_size, stride, padding, dilation, ceil_mode)
    if not (return_indices or return_switches):
        return pool(input, win)
    if return_indices and return_switches:
        raise GeometryError(
            "return_indices and return_switches are both set; ask for one (switches.to_indices() has the other)"
        )
    values, codes = pool_with_codes(input, win)
    switches = Switches(codes, win, tuple(input.shape[-dims:]))
    return (values, switches) if return_switches else (values, switches.to_indices())


@remembered
def _window(
    dims: int,
    shape: Sequence[int],
    dtype: torch.dtype,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    dilation: IntOrTuple,
    ceil_mode: bool,
) -> Window:
    """The window, which is known to fit into an input of this shape and type."""
    check_map_of_numbers(shape, dtype, dims)
    return fitting(dims, kernel_size, stride, padding, dilation, ceil_mode, shape[-dims:])


def check_input(input: Tensor, dims: int) -> None:
    """Refuse inputs that have the wrong number of axes, no channels, or a dtype without an order."""
    check_tensor(input, f"the input of max_pool{dims}d")
    check_map_of_numbers(input.shape, input.dtype, dims)


def check_map_of_numbers(shape: Sequence[int], dtype: torch.dtype, dims: int) -> None:
    """Refuse what `check_input` refuses, by shape and type."""
    if len(shape) not in (dims + 1, dims + 2):
        raise GeometryError(
            f"max_pool{dims}d takes an input of {dims + 1} or {dims + 2} axes (without or with a batch); this one has "
            f"shape {tuple(shape)}"
        )
    if shape[-dims - 1] == 0:
        raise GeometryError(
            f"the input has 0 channels (shape {tuple(shape)}); every axis but the batch needs at least 1 cell"
        )
    if dtype not in DTYPES:
        raise GeometryError(
            f"the input has dtype {dtype}; max pooling takes float64, float32, float16, bfloat16, uint8, int8, "
            "int16, int32 or int64"
        )


DTYPES = frozenset(
    (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
    )
)
