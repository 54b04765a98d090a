"""Max unpooling in one, two and three dimensions: drop-in for ``torch.nn.functional``, and from `Switches`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import IntOrTuple, remembered, window
from switchgrad.ops.checks import check_map_tensor, check_tensor, integers
from switchgrad.ops.max_pool import check_map_of_numbers
from switchgrad.ops.placed import PlacedSwitches
from switchgrad.ops.switches import Switches
from switchgrad.ops.unpooling import unpool_by_indices

AnySwitches: TypeAlias = "Switches | PlacedSwitches"

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


def max_unpool2d(
    input: Tensor,
    indices: Tensor | AnySwitches,
    kernel_size: IntOrTuple | None = None,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put pooled values back where their winners lay, 0 elsewhere: the approximate inverse of `max_pool2d`.

    Shapes: ``input`` is (N, C, P, Q) or (C, P, Q). With `Switches` (or `PlacedSwitches` of random windows) the result
    has the size of the input that was pooled, and no other argument is needed. With PyTorch's flat int64 indices the
    result has ``output_size``, by default (P - 1) s + R - 2 b along each axis, which is one of the sizes that pool to
    P; a size given must lie less than one stride from it.

    Where several windows have one winner, the last in row-major order writes and gets the gradient, on every device
    (PyTorch leaves it open). Backward: the gradient at the winners. Raises `GeometryError` for shapes that do not
    match, and an error that names the first index beyond the output.

    Zeiler, Taylor, Fergus: Adaptive deconvolutional networks (2011).

    >>> import torch, switchgrad
    >>> x = torch.tensor([[[1.0, 5.0, 2.0], [0.0, 3.0, 4.0], [9.0, 8.0, 7.0]]])
    >>> y, switches = switchgrad.ops.max_pool2d(x, 2, return_switches=True)
    >>> max_unpool2d(y, switches)
    tensor([[[0., 5., 0.],
             [0., 0., 0.],
             [0., 0., 0.]]])
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool1d(
    input: Tensor,
    indices: Tensor | AnySwitches,
    kernel_size: IntOrTuple | None = None,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put pooled values of a signal back where their winners lay: `max_unpool2d` along one axis.

    >>> import torch
    >>> max_unpool1d(torch.tensor([[5.0, 7.0]]), torch.tensor([[1, 2]]), 2)
    tensor([[0., 5., 7., 0.]])
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor | AnySwitches,
    kernel_size: IntOrTuple | None = None,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put pooled values of a volume back where their winners lay: `max_unpool2d` along three axes.

    >>> import torch
    >>> max_unpool3d(torch.tensor([[[[7.0]]]]), torch.tensor([[[[5]]]]), 2).flatten().tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0, 0.0]
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _max_unpool(
    dims: int,
    input: Tensor,
    indices: Tensor | AnySwitches,
    kernel_size: IntOrTuple | None,
    stride: IntOrTuple | None,
    padding: IntOrTuple,
    output_size: Sequence[int] | None,
) -> Tensor:
    check_map_tensor(input, "max_pool", dims)
    check_map_of_numbers(input.shape, input.dtype, dims)
    if isinstance(indices, (Switches, PlacedSwitches)):
        return _from_switches(dims, input, indices, output_size)
    check_tensor(indices, "indices")
    if kernel_size is None:
        raise GeometryError("kernel_size is missing; it is needed with indices (Switches know their own window)")
    return unpool_by_indices(input, indices, _output_size(dims, input.shape, kernel_size, stride, padding, output_size))


def _from_switches(dims: int, input: Tensor, switches: AnySwitches, output_size: Sequence[int] | None) -> Tensor:
    axes = len(switches.input_size)
    if axes != dims:
        raise GeometryError(f"max_unpool{dims}d was given switches over {axes} axes; use their function")
    if output_size is not None and tuple(output_size[-dims:]) != switches.input_size:
        raise GeometryError(
            f"output_size is {tuple(output_size)}, but these switches come from an input of {switches.input_size}; "
            "leave it out"
        )
    return switches.unpool(input)


@remembered
def _output_size(
    dims: int,
    shape: Sequence[int],
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: IntOrTuple,
    output_size: Sequence[int] | None,
) -> tuple[int, ...]:
    win = window(dims, kernel_size, stride, padding)
    usual = tuple(
        (places - 1) * s + r - begin - end
        for places, s, r, (begin, end) in zip(shape[-dims:], win.stride, win.kernel_size, win.padding, strict=True)
    )
    if output_size is None:
        return usual
    wanted = tuple(integers(output_size, "output_size", dims)[-dims:])
    fits = len(output_size) >= dims and all(abs(w - u) < s for w, u, s in zip(wanted, usual, win.stride, strict=True))
    if not fits:
        raise GeometryError(
            f"output_size is {tuple(output_size)}; each of its last {dims} entries must lie less than the stride "
            f"{win.stride} from {usual}"
        )
    return wanted
