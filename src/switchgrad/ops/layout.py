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


def in_layout_of(like: Tensor, tensor: Tensor) -> Tensor:
    """``tensor`` in the memory format of ``like``: channels last stays channels last.

    >>> nhwc = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    >>> in_layout_of(nhwc, torch.zeros(2, 3, 2, 2)).stride()
    (12, 1, 6, 3)
    """
    # Not contiguous(): it leaves a map of 1 x 1 cells as it is, and later steps could not tell what its layout was.
    return tensor.clone(memory_format=suggest_memory_format(like))


def empty_in_layout_of(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A new tensor of another shape and type in the memory format of ``like``."""
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=suggest_memory_format(like))


def following(like: Tensor, tensor: Tensor, dims: int) -> Tensor:
    """``tensor`` in the memory format of ``like``, which has ``dims`` spatial axes, by steps that vmap knows."""
    if tensor.dim() != dims + 2 or like.is_contiguous() or suggest_memory_format(like) == torch.contiguous_format:
        return tensor.contiguous()
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
