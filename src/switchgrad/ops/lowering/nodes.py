"""ONNX operators as nodes of the traced graph, and windows as ONNX counts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from switchgrad.geometry import Window
from switchgrad.ops.windows import cells

Size = Sequence[int]


def node(
    name: str, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], dtype: torch.dtype, shape: Size
) -> Tensor:
    """One ONNX operator with one output."""
    return torch.onnx.ops.symbolic(name, inputs, dict(attributes), dtype=dtype, shape=tuple(shape))


def is_fixed(sizes: Size) -> bool:
    """Whether every size is a number, not a letter that stands for any."""
    return not any(isinstance(size, torch.SymInt) for size in sizes)


def ends(window: Window, size: Size, places: Size) -> list[int]:
    """Padding at the end of each axis with which rounding down gives ``places``: what ceil mode adds is written out."""
    found: list[Any] = []  # integers, or letters that stand for some
    for axis, (h, p) in enumerate(zip(size, places, strict=True)):
        reach = (p - 1) * window.stride[axis] + window.effective[axis]
        found.append(torch.sym_max(reach - window.padding[axis][0] - h, 0))
    return found


def takes(window: Window, size: Size) -> bool:
    """Whether ONNX's pooling operators take the window: run times want less padding than the kernel has cells.

    Only holes make windows span more than that. Open sizes are taken without holes.
    """
    if all(d == 1 for d in window.dilation):
        return True
    if not is_fixed(size):
        return False
    end = ends(window, size, window.output_size(size))
    return all(max(b, e) < r for (b, _), e, r in zip(window.padding, end, window.kernel_size, strict=True))


def pool(name: str, input: Tensor, window: Window, fill: float, **attributes: Any) -> Tensor:
    """A pooling operator of ONNX over a window of ours that it `takes`: rounded down, all padding explicit.

    Padding is the operator's own; where its size is open, cells of ``fill`` are laid around the input before.
    """
    dims = window.dims
    size = input.shape[-dims:]
    places = window.output_size(size)
    begin, end = [before for before, _ in window.padding], ends(window, size, places)
    batch = input if input.dim() == dims + 2 else input.unsqueeze(0)
    if not is_fixed(end):
        pads = [cells for pair in zip(reversed(begin), reversed(end), strict=True) for cells in pair]
        batch = functional.pad(batch, pads, value=fill)
        begin = end = [0] * dims
    given = {"kernel_shape": list(window.kernel_size), "strides": list(window.stride), "pads": [*begin, *end]}
    if any(d != 1 for d in window.dilation):
        given["dilations"] = list(window.dilation)
    pooled = node(name, (batch,), {**given, **attributes}, input.dtype, (*batch.shape[:2], *places))
    return pooled if input.dim() == dims + 2 else pooled.squeeze(0)


def laid(input: Tensor, window: Window, fill: float) -> Iterator[Tensor]:
    """The windows' cells one offset after the other, as strided slices."""
    return (cell for _, cell in cells(input, window, fill))
