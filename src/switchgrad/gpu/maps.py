"""Tensors as the kernels see them: N pictures of C maps over three axes, any strides, in one of two memory orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TILE = 1024  # numbers of a result that one program computes: 8 for each thread of 4 warps
_WIDEST = 256  # of them side by side
_FAR = 2**31 - 2**26  # offsets beyond do not fit 32 bits; what a tile may step over its tensor's end is spared


def three(values: Sequence[int], missing: int) -> tuple[int, int, int]:
    """One entry for each of three axes; the axes that a signal or a picture does not have come first.

    >>> three((4, 5), 1)
    (1, 4, 5)
    """
    first, second, third = (*(missing,) * (3 - len(values)), *values)
    return first, second, third


@dataclass(frozen=True, slots=True)
class Maps:
    """Where the numbers of a tensor (N, C, ...) or (C, ...) with ``dims`` spatial axes lie."""

    batch: int
    channels: int
    size: tuple[int, int, int]
    strides: tuple[int, int, int, int, int]  # of n, c, d, h, w, in elements
    channels_last: bool  # compact with the channels side by side; such results are written in that order

    @classmethod
    def of(cls, tensor: Tensor, dims: int) -> Maps:
        """The maps of a tensor; without a batch axis it is a batch of one."""
        lead, spatial = tensor.dim() - dims, three(tensor.shape[-dims:], 1)
        batch = tensor.shape[0] if lead > 1 else 1
        n, c = (tensor.stride(0) if lead > 1 else 0), tensor.stride(lead - 1)
        d, h, w = three(tensor.stride()[-dims:], 0)
        last = lead > 1 and c == 1 and not tensor.is_contiguous()
        return cls(batch, tensor.shape[lead - 1], spatial, (n, c, d, h, w), last)

    @property
    def reach(self) -> int:
        """Elements between the first and the last number."""
        sizes = (self.batch, self.channels, *self.size)
        return sum((size - 1) * stride for size, stride in zip(sizes, self.strides, strict=True))

    @property
    def cells(self) -> int:
        """Numbers in all."""
        d, h, w = self.size
        return self.batch * self.channels * d * h * w


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a result is cut: its memory as ``rows`` rows of ``columns`` numbers, each program a block of both.

    A row is a row of pixels, or with channels last the channels of one pixel.
    """

    rows: int
    columns: int
    block_rows: int
    block_columns: int

    @classmethod
    def over(cls, result: Maps, tile: int | None = None) -> Tiles:
        """Tiles of about ``tile`` numbers (default: `TILE`), as wide as coalesced writes want them."""
        tile = tile or TILE
        columns = result.channels if result.channels_last else result.size[2]
        rows = result.cells // columns if columns else 0
        block_columns = min(power_of_two(columns), _WIDEST, tile)
        return cls(rows, columns, min(max(tile // block_columns, 1), power_of_two(rows)), block_columns)

    @property
    def grid(self) -> tuple[int]:
        """Programs: the tiles of a row are neighbours."""
        return (-(-self.rows // self.block_rows) * -(-self.columns // self.block_columns),)


def power_of_two(count: int) -> int:
    """The least power of two that is not below ``count``; 1 for none.

    >>> power_of_two(7), power_of_two(8), power_of_two(0)
    (8, 8, 1)
    """
    return 1 << max(count - 1, 0).bit_length()


def is_wide(*maps: Maps) -> bool:
    """Whether offsets into any of the tensors need 64 bits."""
    return any(max(each.reach, each.cells) > _FAR for each in maps)


def empty_laid_out(like: Tensor, shape: tuple[int, ...], channels_last: bool) -> Tensor:
    """A new tensor of the dtype of ``like``, channels last or row-major."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = formats[len(shape)] if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def cut(tiles: Tiles, result: Maps, wide: bool) -> dict[str, Any]:
    """How the result lies and is cut, as the kernels name it."""
    return {
        "LAST": result.channels_last,
        "ROWS": tiles.block_rows,
        "COLUMNS": tiles.block_columns,
        "WIDE": wide,
    }
