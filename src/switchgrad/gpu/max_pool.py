"""Max pooling on CUDA: what the operators of `kernels.schema` compute, by the kernels in `max_pool_kernels`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.gpu import max_pool_kernels as kernels
from switchgrad.gpu.adaptive_pool import largest_of_bins
from switchgrad.gpu.launch import accumulator, launch, lowest
from switchgrad.gpu.maps import Maps, Tiles, cut, is_wide, three
from switchgrad.layout import code_dtype, empty_in_layout_of

_LARGE = 32  # cells of a window that are too many for one thread


def max_pool(input: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values and codes."""
    values, codes = empty_pooled(input, window_of(window))
    _pool(input, values, codes, window_of(window))
    return values, codes


def max_pool_values(input: Tensor, window: Sequence[int]) -> Tensor:
    """Values alone."""
    win = window_of(window)
    values = empty_in_layout_of(input, pooled_shape(input, win), input.dtype)
    _pool(input, values, None, win)
    return values


def max_pool_route(pooled: Tensor, codes: Tensor, input_size: Sequence[int], window: Sequence[int]) -> Tensor:
    """Each pooled number added to the cell that won it, in the layout of the codes."""
    return _down(pooled, codes, input_size, window_of(window), added=True)


def max_pool_place(pooled: Tensor, codes: Tensor, input_size: Sequence[int], window: Sequence[int]) -> Tensor:
    """Each pooled number in the cell that won it; of several in one cell the last stays."""
    return _down(pooled, codes, input_size, window_of(window), added=False)


def _down(pooled: Tensor, codes: Tensor, input_size: Sequence[int], win: Window, *, added: bool) -> Tensor:
    size = tuple(int(cells) for cells in input_size)
    total = empty_in_layout_of(codes, (*codes.shape[: -win.dims], *size), pooled.dtype)
    sent, coded, result = (Maps.of(t, win.dims) for t in (pooled, codes, total))
    tiles = Tiles.over(result)
    launch(
        kernels.route,
        tiles.grid,
        pooled,
        codes,
        total,
        tiles.rows,
        tiles.columns,
        result.channels,
        result.size,
        coded.size,
        sent.strides,
        coded.strides,
        **constants(win, coded.size),
        ACC=accumulator(pooled.dtype),
        ADDED=added,
        **cut(tiles, result, is_wide(sent, coded, result)),
    )
    return total


def max_pool_gather(input: Tensor, codes: Tensor, window: Sequence[int]) -> Tensor:
    """The input at each winner, 0 where none won, in the layout of the codes."""
    output = empty_in_layout_of(codes, tuple(codes.shape), input.dtype)
    win = window_of(window)
    _follow(codes, input, output, three(input.shape[-win.dims :], 1), win)
    return output


def max_pool_indices(codes: Tensor, input_size: Sequence[int], window: Sequence[int]) -> Tensor:
    """PyTorch's flat indices, -1 where none won."""
    output = empty_in_layout_of(codes, tuple(codes.shape), torch.int64)
    _follow(codes, None, output, three([int(cells) for cells in input_size], 1), window_of(window))
    return output


def pooled_shape(input: Tensor, win: Window) -> tuple[int, ...]:
    """The shape of the pooled map."""
    return (*input.shape[: -win.dims], *win.output_size(input.shape[-win.dims :]))


def empty_pooled(input: Tensor, win: Window) -> tuple[Tensor, Tensor]:
    """Values and codes of the right shape and layout."""
    shape = pooled_shape(input, win)
    codes = empty_in_layout_of(input, shape, code_dtype(win.cells))
    return empty_in_layout_of(input, shape, input.dtype), codes


def constants(win: Window, places: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """The window as the kernels name its sizes: K cells, S stride, B padding at the beginning, D dilation.

    The stride of a window that takes one place matters to nobody; its span lets the way down look at that place alone.
    """
    begins = [begin for begin, _ in win.padding]
    spans, strides = three(win.effective, 1), three(win.stride, 1)
    return {
        "K": three(win.kernel_size, 1),
        "S": tuple(span if p == 1 else s for p, span, s in zip(places, spans, strides, strict=True)),
        "B": three(begins, 0),
        "D": three(win.dilation, 1),
    }


def _pool(input: Tensor, values: Tensor, codes: Tensor | None, win: Window) -> None:
    if _is_whole(input, win):
        largest_of_bins(input, values, codes, win.dims)  # a code in a window that is the map is an index in the map
        return
    given, result = Maps.of(input, win.dims), Maps.of(values, win.dims)
    tiles = Tiles.over(result)
    launch(
        kernels.pool,
        tiles.grid,
        input,
        values,
        values if codes is None else codes,
        tiles.rows,
        tiles.columns,
        given.channels,
        given.size,
        result.size,
        given.strides,
        **constants(win, result.size),
        LOWEST=lowest(input.dtype),
        ACC=accumulator(input.dtype),
        CODED=codes is not None,
        **cut(tiles, result, is_wide(given, result)),
    )


def _is_whole(input: Tensor, win: Window) -> bool:
    """Whether there is one window, large and just the map: then a program shares it among its threads."""
    plain = not any(begin for begin, _ in win.padding) and set(win.dilation) == {1}
    one = all(places == 1 for places in win.output_size(input.shape[-win.dims :]))
    return plain and one and win.cells >= _LARGE and win.kernel_size == tuple(input.shape[-win.dims :])


def _follow(codes: Tensor, input: Tensor | None, output: Tensor, size: tuple[int, int, int], win: Window) -> None:
    coded, result = Maps.of(codes, win.dims), Maps.of(output, win.dims)
    taken = output if input is None else input
    given = Maps.of(taken, win.dims)
    tiles = Tiles.over(result)
    launch(
        kernels.follow,
        tiles.grid,
        codes,
        taken,
        output,
        tiles.rows,
        tiles.columns,
        result.channels,
        size,
        result.size,
        coded.strides,
        given.strides,
        **constants(win, result.size),
        INDEX=input is None,
        **cut(tiles, result, is_wide(given, coded, result)),
    )
