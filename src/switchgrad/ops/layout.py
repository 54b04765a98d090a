"""Tensors in the memory format of other tensors, and how switches are coded."""

import torch
from torch import Tensor

from switchgrad.layout import code_dtype, empty_in_layout_of, memory_format_of, no_winner

__all__ = ["code_dtype", "empty_in_layout_of", "following", "in_layout_of", "memory_format_of", "no_winner"]


def in_layout_of(like: Tensor, tensor: Tensor) -> Tensor:
    """``tensor`` in the memory format of ``like``: channels last stays channels last.

    >>> nhwc = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    >>> in_layout_of(nhwc, torch.zeros(2, 3, 2, 2)).stride()
    (12, 1, 6, 3)
    """
    # Not contiguous(): it leaves a map of 1 x 1 cells as it is, and later steps could not tell what its layout was.
    return tensor.clone(memory_format=memory_format_of(like))


def following(like: Tensor, tensor: Tensor, dims: int) -> Tensor:
    """``tensor`` in the memory format of ``like``, which has ``dims`` spatial axes, by steps that vmap knows."""
    if tensor.dim() != dims + 2 or like.is_contiguous() or memory_format_of(like) == torch.contiguous_format:
        return tensor.contiguous()
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
