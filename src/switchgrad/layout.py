"""How results are laid out in memory, and how switches are coded."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def code_dtype(cells: int) -> torch.dtype:
    """The narrowest type that names each of ``cells`` cells and one more: "no cell won".

    >>> code_dtype(4), code_dtype(254), code_dtype(255)
    (torch.uint8, torch.uint8, torch.int16)
    """
    return torch.uint8 if cells <= 254 else torch.int16 if cells <= 32767 else torch.int32


def no_winner(dtype: torch.dtype) -> int:
    """The code that says that no cell won: all bits set.

    >>> no_winner(torch.uint8), no_winner(torch.int16)
    (255, -1)
    """
    return 255 if dtype == torch.uint8 else -1


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """How ``tensor`` lies in memory: PyTorch's ``suggest_memory_format``.

    That takes longer than many a pooling; where no axis has a single cell, nothing is ambiguous, and the formats are
    told apart at once.

    >>> memory_format_of(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    torch.channels_last
    """
    if not torch.compiler.is_compiling() and tensor.dim() in _LAST and min(tensor.shape) > 1:
        if tensor.is_contiguous():
            return torch.contiguous_format
        if _lies_channels_last(tensor.shape, tensor.stride()):
            return _LAST[tensor.dim()]
    return suggest_memory_format(tensor)


def _lies_channels_last(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether channels are neighbours, then columns, rows and pictures, without holes."""
    step = shape[1]
    for axis in range(len(shape) - 1, 1, -1):
        if stride[axis] != step:
            return False
        step *= shape[axis]
    return stride[1] == 1 and stride[0] == step


def empty_in_layout_of(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A new tensor of another shape and type in the memory format of ``like``."""
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=memory_format_of(like))
