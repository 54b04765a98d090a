"""Convolution, ReLU and max pooling declare themselves to the harness: fused, without a ReLU, leaky, in steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import loops
from conform import Case, Operator
from switchgrad import geometry, ops


def _case(name: str, x: tuple[int, ...], w: tuple[int, ...], *, bias: bool = True, **arguments: Any) -> Case:
    flags = {flag: arguments.pop(flag) for flag in ("peer", "small") if flag in arguments}
    return Case(name, (x, w, w[:1]) if bias else (x, w), arguments, **flags)


# Channels in and out go through 1, 2, 3, 6, 16, 17, 20, 33, 64 and 70; kernels from 1 to 7 and 11; strides 1, 2 and 4.
CASES = (
    _case("2x2, pool 2x2/2", (2, 1, 5, 5), (2, 1, 2, 2), small=True),
    _case(
        "3x2, pool 3x3/2 padded",
        (1, 2, 4, 5),
        (2, 2, 3, 2),
        bias=False,
        padding=1,
        pool_size=3,
        pool_stride=2,
        pool_padding=1,
        small=True,
    ),
    _case("strides all different", (2, 2, 7, 5), (1, 2, 2, 3), stride=(2, 1), pool_size=(2, 1), small=True),
    _case("1 to 1, 5x5", (1, 1, 9, 9), (1, 1, 5, 5), padding=2),
    _case("2 to 17", (1, 2, 6, 7), (17, 2, 3, 3), padding=1),
    _case("3 to 16", (2, 3, 7, 8), (16, 3, 3, 3), padding=1),
    _case("6 to 20, 5x5", (1, 6, 10, 10), (20, 6, 5, 5)),
    _case("16 to 6, 1x1", (1, 16, 5, 6), (6, 16, 1, 1)),
    _case("17 to 33, 2x2", (1, 17, 6, 6), (33, 17, 2, 2), bias=False),
    _case("20 to 3, same", (1, 20, 7, 6), (3, 20, 4, 4), padding="same", peer=False),
    _case("33 to 2", (1, 33, 5, 6), (2, 33, 3, 3), padding=1),
    _case("64 to 70", (1, 64, 3, 4), (70, 64, 3, 3), padding=1),
    _case("70 to 64, 3x2", (1, 70, 4, 5), (64, 70, 3, 2)),
    _case(
        "7x7/2, pool 3x3/2",
        (1, 3, 15, 16),
        (8, 3, 7, 7),
        stride=2,
        padding=3,
        pool_size=3,
        pool_stride=2,
        pool_padding=1,
    ),
    _case("11x11/4", (1, 3, 27, 31), (5, 3, 11, 11), stride=4, padding=2, pool_size=3, pool_stride=2),
    _case("6x6/2, padded by the span", (1, 2, 9, 10), (3, 2, 6, 6), stride=2, padding=(5, 0)),
    _case("2x2/4 hops", (1, 2, 15, 14), (3, 2, 2, 2), stride=4),
    _case("asymmetric", (2, 2, 6, 7), (3, 2, 3, 4), padding=((0, 2), (3, 1)), peer=False),
    _case("padding beyond the kernel", (1, 2, 4, 5), (3, 2, 2, 3), padding=4),
    _case("pool 3x3/3", (1, 2, 10, 11), (3, 2, 3, 3), padding=1, pool_size=3),
    _case("pool 2x2/1", (2, 2, 6, 7), (3, 2, 3, 3), pool_stride=1),
    _case("pool 1x3", (1, 2, 5, 11), (3, 2, 3, 3), pool_size=(1, 3)),
    _case("pool 3x1, columns hop", (1, 2, 9, 9), (3, 2, 2, 2), pool_size=(3, 1), pool_stride=(1, 2)),
    _case("pool dilated", (1, 2, 9, 10), (3, 2, 3, 3), pool_stride=1, pool_dilation=(2, 3), pool_padding=1),
    _case("pool 2x2/3 hops", (1, 2, 9, 10), (3, 2, 2, 2), pool_stride=3),
    _case("pool 3x3/2, ceil", (1, 2, 8, 9), (18, 2, 1, 2), pool_size=3, pool_stride=2, ceil_mode=True),
    _case("pool 2x2/2, odd, ceil", (1, 2, 7, 9), (3, 2, 3, 3), padding=1, ceil_mode=True),
    _case("pool 2x2/2, odd, floor", (2, 2, 7, 9), (3, 2, 3, 3), padding=1),
    _case(
        "pool asymmetric",
        (1, 2, 6, 7),
        (3, 2, 2, 2),
        pool_size=3,
        pool_stride=2,
        pool_padding=((2, 0), (0, 1)),
        peer=False,
    ),
    _case("pool of one cell", (1, 2, 4, 5), (3, 2, 3, 3), pool_size=1),
    _case("pool of the whole map", (2, 2, 6, 5), (3, 2, 3, 2), pool_size=4),
    _case("pool of 254 cells", (1, 1, 2, 130), (2, 1, 1, 1), pool_size=(2, 127), pool_stride=1),
    _case(
        "windows without a cell", (1, 2, 2, 3), (3, 2, 1, 1), pool_stride=1, pool_dilation=4, pool_padding=2, peer=False
    ),
    _case("one cell", (2, 2, 1, 1), (3, 2, 1, 1), pool_size=1),
    _case("one row", (1, 2, 1, 9), (3, 2, 1, 3), padding=(0, 1), pool_size=(1, 2)),
    _case("one column", (1, 2, 9, 1), (3, 2, 3, 1), padding=(1, 0), pool_size=(2, 1)),
    _case("wide", (1, 3, 3, 75), (17, 3, 3, 3), padding=1),
    _case("wide, 1 to 6", (1, 1, 5, 41), (6, 1, 5, 5), padding=2),
    _case("wide, 3 to 5", (1, 3, 4, 33), (5, 3, 3, 3), padding=1),
)
SOME = (
    "strides all different",
    "3x2, pool 3x3/2 padded",
    "2x2, pool 2x2/2",
    "17 to 33, 2x2",
    "asymmetric",
    "pool dilated",
    "pool 2x2/2, odd, ceil",
    "windows without a cell",
)
LARGE = (
    _case("large 3x3, pool 2x2/2", (3, 16, 26, 27), (33, 16, 3, 3), padding=1),
    _case(
        "large 5x5/2, pool 3x3/2", (3, 3, 51, 52), (20, 3, 5, 5), stride=2, pool_size=3, pool_stride=2, pool_padding=1
    ),
    _case("blocks of rows", (1, 70, 32, 61), (3, 70, 2, 2), stride=(1, 2), padding=1),
)
SLOPE = 0.25  # a power of two: products are exact


def _function(call: Callable[..., Any]) -> Callable[..., tuple[Tensor, ...]]:
    def function(*tensors: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
        values, switches = call(*tensors, **arguments, return_switches=True)
        return values, switches.to_indices(), switches.codes

    return function


def _peer(relu: bool) -> Callable[..., Tensor]:
    """PyTorch's own operators, one after the other."""

    def peer(*tensors: Tensor, negative_slope: float = 0.0, **arguments: Any) -> Tensor:
        filters, pool = loops.apart(arguments)
        z = F.conv2d(*tensors, **filters)
        if relu:
            z = F.leaky_relu(z, negative_slope) if negative_slope else F.relu(z)
        return F.max_pool2d(z, **pool)

    return peer


def _settled(relu: bool) -> Callable[..., np.ndarray]:
    def settled(eps: float, *arrays: np.ndarray, negative_slope: float = 0.0, **arguments: Any) -> np.ndarray:
        """Where the winner leads by more than rounding, and is as far from the ReLU's corner."""
        filters, pool = loops.apart(arguments)
        z = loops.conv(*arrays, **filters)
        room = 64 * eps * np.abs(z).max()
        sure = loops.lead(z, **pool) > room
        return sure & (np.abs(loops.max_pool(z, 2, **pool)[0]) > room) if relu and not negative_slope else sure

    return settled


def _reference(relu: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    def reference(*arrays: np.ndarray, negative_slope: float = 0.0, **arguments: Any) -> tuple[np.ndarray, ...]:
        values, *others = loops.conv_pool(*arrays, relu=relu and not negative_slope, **arguments)
        if negative_slope:
            values = np.where(values < 0, negative_slope * values, values).astype(values.dtype)
        return (values, *others)

    return reference


def _gradient(relu: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    def gradient(grad: np.ndarray, *arrays: np.ndarray, negative_slope: float = 0.0, **arguments: Any) -> Any:
        rectified = relu and not negative_slope
        if negative_slope:  # NaN is not above 0, PyTorch says, and its gradient is that of the slope
            values = loops.conv_pool(*arrays, relu=False, **arguments)[0]
            grad = np.where(values > 0, grad, negative_slope * grad).astype(grad.dtype)
        return loops.conv_pool_gradient(grad, *arrays, relu=rectified, **arguments)

    return gradient


def _saved(case: Case) -> int:
    """The input and the weights, four bytes a number, and one byte a pooled cell.

    Padding beyond the kernel's span is put around the input beforehand, and kept with it.
    """
    x, w = case.shapes[:2]
    filters, pool = loops.apart(dict(case.arguments))
    conv = loops.Filters.over(np.empty(x), np.empty(w), **filters)
    size = [len(axis.starts()) for axis in conv.along]
    beyond = [max(axis.begin + 1 - axis.kernel, 0) for axis in conv.along]
    kept = [cells + 2 * more for cells, more in zip(x[2:], beyond, strict=True)]
    pooled = x[0] * w[0] * math.prod(loops.pooled_shape(loops.axes(size, **pool)))
    return 4 * math.prod((*x[:2], *kept)) + 4 * math.prod(w) + pooled


def _registered(relu: bool) -> Callable[..., list[tuple[Any, tuple[Any, ...]]]]:
    def calls(x: Tensor, w: Tensor, b: Tensor | None = None, **arguments: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        filters, pool = loops.apart(arguments)
        conv = geometry.window(2, tuple(w.shape[2:]), filters.get("stride", 1), filters.get("padding", 0))
        window = geometry.window(2, **pool).numbers
        given = (x, w, b, list(conv.stride), conv.flat_padding, window, relu)
        values, codes = torch.ops.switchgrad.conv_max_pool(*given)
        back = torch.ops.switchgrad.conv_max_pool_backward.default
        rest = (codes, x, w, *given[3:-1])
        return [
            (torch.ops.switchgrad.conv_max_pool.default, given),
            (back, (values, *rest, True, True, True)),
            (back, (values, *rest, False, True, False)),
            (back, (values, *rest, True, False, False)),
        ]

    return calls


CONV_RELU_MAX_POOL = Operator(
    name="conv_relu_max_pool2d",
    function=_function(ops.conv_relu_max_pool2d),
    values_only=ops.conv_relu_max_pool2d,
    cases=CASES,
    large=LARGE,
    reference=_reference(True),
    reference_gradient=_gradient(True),
    peer=_peer(True),
    settled=_settled(True),
    dtypes=(torch.float64, torch.float32),
    gradient_dtypes=(torch.float64, torch.float32),
    differentiable=(0, 1, 2),
    weights=(1, 2),
    samples=("plain", "whole", "ties", "special"),
    exact=False,
    exact_samples=("whole", "ties", "special"),
    autocasts=True,
    compiler="aot_eager",
    saved_bytes=lambda case: _saved(case),
    registered=_registered(True),
)


def _variant(name: str, cases: tuple[Case, ...], **changes: Any) -> Operator:
    return replace(CONV_RELU_MAX_POOL, name=name, cases=cases, **changes)


CONV_MAX_POOL = _variant(
    "conv_max_pool2d",
    tuple(case for case in CASES if case.name in SOME),
    function=_function(ops.conv_max_pool2d),
    values_only=ops.conv_max_pool2d,
    reference=_reference(False),
    reference_gradient=_gradient(False),
    peer=_peer(False),
    settled=_settled(False),
    registered=_registered(False),
    large=(),
)
LEAKY = _variant(
    "conv_relu_max_pool2d with a slope",
    tuple(
        replace(case, arguments={**case.arguments, "negative_slope": SLOPE}) for case in CASES if case.name in SOME[2:6]
    ),
    saved_bytes=None,
    registered=None,
    large=(),
)
IN_STEPS = _variant(
    "conv_relu_max_pool2d in steps",
    (
        _case("2 groups", (2, 4, 5, 6), (2, 2, 2, 2), groups=2, small=True),
        _case("dilated", (1, 2, 6, 6), (2, 2, 2, 2), dilation=(1, 2), padding=1, bias=False, small=True),
        _case("a filter a channel", (1, 6, 7, 7), (12, 1, 3, 3), groups=6, padding=1, pool_size=3, pool_stride=2),
        _case("pool of 255 cells", (1, 1, 17, 17), (2, 1, 1, 2), pool_size=(17, 15), pool_stride=1),
        _case("dilated, asymmetric", (1, 3, 8, 9), (4, 3, 3, 3), dilation=2, padding=((1, 2), (0, 3)), peer=False),
    ),
    dtypes=(torch.float64, torch.float32, torch.bfloat16, torch.float16),
    samples=("plain", "whole", "ties"),
    keeps_layout=False,
    saved_bytes=None,
    registered=None,
    large=(),
)
# For mutants: few cases, one dtype, and one that is large enough for threads to share.
FEW = _variant(
    "conv_relu_max_pool2d",
    tuple(case for case in CASES if case.name in (*SOME[:3], "3 to 16", "pool 2x2/1", "7x7/2, pool 3x3/2")),
    dtypes=(torch.float32,),
    gradient_dtypes=(torch.float32,),
    samples=("plain", "whole", "ties"),
    keeps_layout=False,
    large=(_case("large", (2, 7, 9, 9), (5, 7, 3, 3), padding=1),),
)
