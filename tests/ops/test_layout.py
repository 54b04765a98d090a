"""How tensors lie in memory."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch._prims_common import suggest_memory_format

from switchgrad.layout import memory_format_of


@pytest.mark.parametrize("sizes", [(2, 3, 1, 2), (1, 2, 3, 3), (2, 3, 4, 2), (2, 1, 2, 2), (2, 2, 3, 2, 2), (2, 3, 2)])
def test_memory_formats_are_pytorchs_in_every_order_of_axes_and_with_holes(sizes: tuple[int, ...]) -> None:
    axes = range(len(sizes))
    for order in itertools.permutations(axes):
        laid = torch.zeros([sizes[axis] for axis in order]).permute([order.index(axis) for axis in axes])
        for view in (laid, laid[1:], laid[:, :1], laid[..., ::2], laid[..., 1:], laid[:1].expand(3, *sizes[1:])):
            if view.numel():
                assert memory_format_of(view) == suggest_memory_format(view), (view.shape, view.stride())
