"""`Switches`: for every pooled cell, the address of the winner in its window, one byte each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.geometry import Window
from switchgrad.kernels.schema import LIBRARY
from switchgrad.ops.checks import in_words
from switchgrad.ops.layout import code_dtype, no_winner
from switchgrad.ops.placing import has_place, place
from switchgrad.ops.routing import fold, is_transformed, route, unfold
from switchgrad.ops.unpooling import unpool_by_indices


@dataclass(frozen=True, eq=False)
class Switches:
    """Where the winners of a max pooling lie.

    ``codes`` has the shape of the pooled map and holds the winner's row-major offset in its window: bytes for windows
    of up to 254 cells, int16 or int32 for wider ones; 255 (-1 where wider) says that no cell won. ``window`` and
    ``input_size`` (the spatial axes of the pooled input) say where the windows lie, so a switch needs no index into
    the whole map, never overflows, and unpooling is never ambiguous about its output size.

    The tunnel from pooled map to input that Zeiler and Fergus (2014) named: the same bytes serve the gradient,
    unpooling and the picture of the route.

    >>> import torch, switchgrad
    >>> x = torch.tensor([[[3.0, 9.0, 0.0, 6.0], [1.0, 2.0, 7.0, 7.0]]])
    >>> y, switches = switchgrad.ops.max_pool2d(x, 2, return_switches=True)
    >>> y.tolist(), switches.codes.tolist(), switches.nbytes
    ([[[9.0, 7.0]]], [[[1, 2]]], 2)
    >>> switches.to_indices().tolist()
    [[[1, 6]]]
    >>> switches.mask().int().tolist()
    [[[0, 1, 0, 0], [0, 0, 1, 0]]]
    >>> switches.unpool(y).tolist()
    [[[0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]]]
    """

    codes: Tensor
    window: Window
    input_size: tuple[int, ...]

    def __post_init__(self) -> None:
        places = self.window.output_size(self.input_size)
        if self.codes.shape[-self.window.dims :] != places or self.codes.dim() - self.window.dims not in (1, 2):
            raise GeometryError(
                f"codes of shape {tuple(self.codes.shape)} do not go with a window that takes {places} places over an "
                f"input of {self.input_size}; use the switches with the pooling that made them"
            )
        if self.codes.dtype != code_dtype(self.window.cells):
            raise GeometryError(
                f"codes have dtype {self.codes.dtype}; a window of {self.window.cells} cells has "
                f"{code_dtype(self.window.cells)} codes"
            )

    @property
    def nbytes(self) -> int:
        """Bytes that the codes take: what max pooling keeps for its backward."""
        return self.codes.numel() * self.codes.element_size()

    def to_indices(self) -> Tensor:
        """The winners as PyTorch names them: int64, flat and row-major in each channel of the input; -1 for none.

        Raises `GeometryError` where a code points outside its window or outside the input.
        """
        self._check_codes()
        numbers = self.window.numbers
        return in_words(torch.ops.switchgrad.max_pool_indices, self.codes, list(self.input_size), numbers)

    @classmethod
    def from_indices(cls, indices: Tensor, window: Window, input_size: Sequence[int]) -> Switches:
        """The switches that PyTorch's flat ``indices`` stand for.

        ``window`` comes from `switchgrad.geometry.window`. Raises `GeometryError` where an index does not lie in the
        window of its place, as happens when the geometry is not that of the pooling that made the indices.

        >>> import torch, switchgrad
        >>> _, indices = torch.nn.functional.max_pool1d(torch.tensor([[1.0, 5.0, 2.0, 0.0]]), 2, return_indices=True)
        >>> Switches.from_indices(indices, switchgrad.geometry.window(1, 2), (4,)).codes.tolist()
        [[1, 0]]
        """
        size = tuple(input_size)
        dtype = code_dtype(window.cells)
        codes = torch.zeros_like(indices)
        valid = torch.ones_like(indices, dtype=torch.bool)
        rest = indices
        places = window.output_size(size)
        for axis in reversed(range(window.dims)):
            shape = [-1] + [1] * (window.dims - 1 - axis)
            start = torch.arange(places[axis], device=indices.device) * window.stride[axis] - window.padding[axis][0]
            away = (rest % size[axis] if axis else rest) - start.reshape(shape)
            rest = rest // size[axis]
            cell = away // window.dilation[axis]
            valid &= (away % window.dilation[axis] == 0) & (cell >= 0) & (cell < window.kernel_size[axis])
            codes += cell * math.prod(window.kernel_size[axis + 1 :])
        none = indices == -1
        if not bool((valid & (indices < math.prod(size)) | none).all()):
            raise GeometryError(
                "some indices do not lie in the window of their place; give the window and input_size of the pooling "
                "that made them"
            )
        return cls(torch.where(none, no_winner(dtype), codes).to(dtype), window, size)

    def mask(self) -> Tensor:
        """The input's shape as booleans: True where a cell won at least one window. The gradient's support."""
        self._check_codes()
        won = (self.codes != no_winner(self.codes.dtype)).to(torch.int32)
        return route(won, self.codes, self.input_size, self.window) > 0

    def unpool(self, values: Tensor) -> Tensor:
        """``values`` put back where the winners lay, 0 elsewhere: approximate inverse of max pooling.

        ``values`` has the shape of the codes; the result has ``input_size``. Where overlapping windows have one winner
        the last window in row-major order writes, and only that one gets the gradient. Backward: the gradient at the
        winners. Zeiler and Fergus (2014).
        """
        if values.shape != self.codes.shape:
            raise GeometryError(
                f"values have shape {tuple(values.shape)} and the switches {tuple(self.codes.shape)}; give one value "
                "for each switch"
            )
        if self.window.overlaps and has_place(values):
            self._check_codes()
            return place(values, self.codes, self.input_size, self.window)
        if self.window.overlaps:
            return unpool_by_indices(values, self.to_indices(), self.input_size)
        self._check_codes()
        return route(values, self.codes, self.input_size, self.window)

    def _check_codes(self) -> None:
        """Codes may come from outside (a file, another pooling): every one must name a cell of its window."""
        if torch.compiler.is_compiling() or is_transformed() or self.codes.is_meta:
            return  # nobody may look at the numbers; the kernels refuse foreign codes as well
        foreign = self.codes >= self.window.cells
        if self.codes.dtype != torch.uint8:
            foreign |= self.codes < -1
        if bool((foreign & (self.codes != no_winner(self.codes.dtype))).any()):
            raise GeometryError(
                "some switches point outside their window or the input; use them with the pooling that made them"
            )


def _indices_of_maps(
    info: Any, in_dims: tuple[int | None, ...], codes: Tensor, size: Sequence[int], *window: Any
) -> tuple[Tensor, int]:
    """The rule of ``max_pool_indices`` for vmap: the mapped axis is one more axis of the batch."""
    axes, spatial = codes.dim() - 1, len(size)
    indices = torch.ops.switchgrad.max_pool_indices(fold(codes, in_dims[0], info.batch_size, spatial), size, *window)
    return unfold(indices, info.batch_size, axes), 0


torch.library.register_vmap("switchgrad::max_pool_indices", _indices_of_maps, lib=LIBRARY)
