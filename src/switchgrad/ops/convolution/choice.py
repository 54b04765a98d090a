"""Which way a convolution is computed: how large Winograd's tiles are, or PyTorch's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from switchgrad.errors import GeometryError
from switchgrad.ops.routing import is_transformed

Algorithm = Literal["auto", "direct", "winograd2", "winograd4"]

_TILE = {"direct": 0, "winograd2": 2, "winograd4": 4}

# In products of a dense convolution, as they were measured: a transformed number on its way in or out (by the
# size of tiles), a transformed weight, a number that goes from one layout to the other.
_TERM, _WEIGHT, _RELAYOUT = {2: 12, 4: 26}, 65, 25
_WORTH = 0.9  # of the dense convolution's cost, below which the tiles are worth it
_FEWEST = 16  # channels: with fewer, vectors are mostly empty


def check_algorithm(algorithm: str) -> None:
    """Refuse an algorithm that there is not."""
    if algorithm not in get_args(Algorithm):
        raise GeometryError(f"algorithm is {algorithm!r}; give one of {', '.join(get_args(Algorithm))}")


def tile_for(input: Tensor, weight: Tensor, padding: Sequence[int], algorithm: Algorithm) -> int:
    """2 or 4, or 0 for PyTorch's own."""
    if algorithm != "auto":
        return _TILE[algorithm]
    return _cheapest(tuple(input.shape), tuple(weight.shape), tuple(padding), _is_channels_last(input))


def _is_channels_last(input: Tensor) -> bool:
    return input.is_contiguous(memory_format=torch.channels_last)


def _cheapest(
    shape: tuple[int, ...], weight_shape: tuple[int, ...], padding: tuple[int, ...], channels_last: bool
) -> int:
    batch, channels, *size = shape
    filters = weight_shape[0]
    if channels < _FEWEST or filters < _FEWEST:
        return 0
    taps = weight_shape[2]
    rows, columns = (n + 2 * p - taps + 1 for n, p in zip(size, padding, strict=True))
    products = channels * filters
    best, cost = 0, _WORTH * taps**2 * products * batch * rows * columns
    for tile in (2, 4):
        tiles = batch * -(-rows // tile) * -(-columns // tile)
        terms = (tile + taps - 1) ** 2
        total = terms * (tiles * (products + _TERM[tile] * (channels + filters)) + _WEIGHT * products)
        if not channels_last:
            total += _RELAYOUT * batch * (channels * size[0] * size[1] + filters * rows * columns)
        if total < cost:
            best, cost = tile, total
    return best


def is_beyond_kernels() -> bool:
    """Whether a mode is on in which calls are PyTorch's own: autocast, forward mode, a transform of torch.func."""
    return torch.is_autocast_enabled("cpu") or is_transformed()


def obstacle(
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str | None:
    """Why Winograd's tiles cannot serve this call; None where they can."""
    if tuple(weight.shape[2:]) not in ((3, 3), (5, 5)):
        return f"the kernel has {'x'.join(map(str, weight.shape[2:]))} taps and not 3x3 or 5x5"
    if tuple(stride) != (1, 1):
        return f"the stride is {tuple(stride)} and not 1"
    if tuple(dilation) != (1, 1):
        return f"the dilation is {tuple(dilation)} and not 1"
    if groups != 1:
        return f"there are {groups} groups"
    if max(padding) >= weight.shape[2]:
        return f"the padding is {tuple(padding)}, more than {weight.shape[2] - 1}"
    if input.dtype not in (torch.float32, torch.float64) or weight.dtype != input.dtype:
        return f"the kernels take float32 or float64, and these are {input.dtype} and {weight.dtype}"
    if input.device.type != "cpu" or weight.device.type != "cpu":
        return f"the kernels are for the CPU, and this is {input.device}"
    return None
