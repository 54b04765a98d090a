"""Boxes under vmap: the mapped axis becomes more pictures of one batch, and each box names its picture there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def in_one_batch(
    many: int, in_dims: Sequence[int | None], tensor: Tensor, boxes: Tensor, pictures: int
) -> tuple[Tensor, Tensor]:
    """``tensor`` with its mapped axis folded into its first one, and the boxes of all of ``many`` batches in one table.

    >>> _, table = in_one_batch(2, (0, None), torch.zeros(2, 3, 1, 4, 4), torch.tensor([[1.0, 0, 0, 2, 2]]), 3)
    >>> table[:, 0]
    tensor([1., 4.])
    """
    first = torch.arange(many, dtype=boxes.dtype, device=boxes.device).reshape(many, 1) * pictures
    table = stacked(many, in_dims[1], boxes)
    table = torch.cat([(table[..., 0] + first).unsqueeze(-1), table[..., 1:]], -1)
    return stacked(many, in_dims[0], tensor).flatten(0, 1), table.flatten(0, 1)


def stacked(many: int, dim: int | None, tensor: Tensor) -> Tensor:
    """``tensor`` with the mapped axis in front, repeated where it is not mapped."""
    return tensor.expand(many, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
