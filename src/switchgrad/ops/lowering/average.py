"""Average pooling in ONNX: what it divides by is written out where ONNX's own rule is another."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from switchgrad.geometry import Window, window_of
from switchgrad.ops.adaptive_pool.average import bins, fixed_bins
from switchgrad.ops.avg_pool.reference import divisors, wide
from switchgrad.ops.lowering.nodes import Size, ends, is_fixed, laid, pool, takes

_NATIVE = frozenset((torch.float32, torch.float16))  # ONNX Runtime averages no float64, and bfloat16 came late to ONNX


def _avg_pool(input: Tensor, window: list[int], include: bool, divisor: float) -> Tensor:
    win = window_of(window)
    if input.dtype in _NATIVE and _counts_alike(input, win, include, divisor):
        return pool("AveragePool", input, win, 0.0, count_include_pad=int(include))
    by = divisors(input.shape[-win.dims :], win, include, divisor, input)
    return (_sums(input, win) / by).to(input.dtype)


def _counts_alike(input: Tensor, win: Window, include: bool, divisor: float) -> bool:
    """Whether ONNX divides by the same numbers: by all cells, the padding's among them, or by those inside."""
    size = input.shape[-win.dims :]
    if divisor or not is_fixed(size):
        return False
    if include:
        extra = ends(win, size, win.output_size(size))
        return takes(win, size) and all(more <= end for more, (_, end) in zip(extra, win.padding, strict=True))
    return all(d == 1 for d in win.dilation)  # with holes a window may see no cell at all


def _sums(input: Tensor, win: Window) -> Tensor:
    if input.dtype in _NATIVE and takes(win, input.shape[-win.dims :]):
        return pool("AveragePool", input, win, 0.0, count_include_pad=1).to(wide(input.dtype)) * win.cells
    return functools.reduce(operator.add, laid(input.to(wide(input.dtype)), win, 0.0))


def _adaptive_avg_pool(input: Tensor, output_size: Size) -> Tensor:
    pooled = input.to(wide(input.dtype))
    for axis, along in zip(range(-len(output_size), 0), fixed_bins(input, output_size), strict=True):
        if along != bins(input.shape[axis], input.shape[axis]):
            means = [pooled.narrow(axis, begin, end - begin).mean(axis, keepdim=True) for begin, end in along]
            pooled = torch.cat(means, axis)
    return pooled.to(input.dtype)


LOWERED: dict[str, Callable[..., Any]] = {"avg_pool": _avg_pool, "adaptive_avg_pool": _adaptive_avg_pool}
