"""How results are laid out in memory, and how switches are coded."""

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format


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


def empty_in_layout_of(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A new tensor of another shape and type in the memory format of ``like``."""
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=suggest_memory_format(like))
