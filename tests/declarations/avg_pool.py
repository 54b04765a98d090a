"""Average, sum and adaptive average pooling declare themselves to the harness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import laws
import loops
from conform import FLOATS, Case, Operator
from declarations.max_pool import CASES as WINDOWS
from declarations.max_pool import LARGE, _strides
from switchgrad import geometry, nn, ops

AVERAGE = {1: ops.avg_pool1d, 2: ops.avg_pool2d, 3: ops.avg_pool3d}
SUM = {1: ops.sum_pool1d, 2: ops.sum_pool2d, 3: ops.sum_pool3d}
TORCH_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE = {1: ops.adaptive_avg_pool1d, 2: ops.adaptive_avg_pool2d, 3: ops.adaptive_avg_pool3d}
TORCH_ADAPTIVE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
LAYER = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE_LAYER = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
SAMPLES = ("plain", "ties", "negative")  # infinities and NaN: test_avg_pool_edges.py

# Windows that max pooling is tried with as well, and what only averages have.
SHARED = {
    1: ("overlapping", "dilated", "odd, ceil", "ceil, larger than the input", "wide pairs", "wide 5/3 dilated", "hops",
        "300 cells in a window", "windows without a cell", "padding of span - 1", "same"),
    2: ("2x2/2", "3x2, all different", "2x2/2 odd, ceil", "3x3/3 ceil, padded", "2x2/2 columns overlap", "1x2",
        "2x2/2 rows overlap", "whole", "whole, 182 cells", "whole, many channels",
        "as large as the map, half beside it", "one cell, padded", "one row",
        "one column", "wide", "wide 3x3/2",
        "many channels 3x3/2", "255 cells in a window", "asymmetric, ceil", "windows without a cell",
        "2x2/2, padded at the end", "padding of span - 1", "same"),
    3: ("1x2x2", "overlapping", "odd, ceil", "all different", "dilated", "rows overlap", "wide", "asymmetric"),
}  # fmt: skip


def _case(name: str, shape: tuple[int, ...], **arguments: Any) -> Case:
    return Case(name, (shape,), arguments)


# Small cases divide by powers of two: then derivatives of whole numbers are exact.
FOUR_BY_TWO = {"kernel_size": (4, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
ONLY_AVERAGES = {
    1: (
        Case("4/2", ((1, 2, 9),), {"kernel_size": 4, "stride": 2, "padding": 2}, small=True),
        _case("not counting padding", (1, 2, 9), kernel_size=3, stride=2, padding=1, count_include_pad=False),
        _case("30 columns", (1, 2, 64), kernel_size=30, stride=1, padding=7),
        _case("30 columns, 2 apart", (1, 2, 64), kernel_size=30, stride=2, padding=7),
        _case("70 columns, one place", (2, 2, 75), kernel_size=70),
    ),
    2: (
        Case("4x2, all different", ((1, 2, 6, 5),), FOUR_BY_TWO, peer=False, small=True),
        _case("3x3/2 ceil, padded", (1, 2, 5, 6), kernel_size=3, stride=2, padding=1, ceil_mode=True),
        _case("not counting", (1, 2, 7, 6), kernel_size=3, stride=2, padding=1, count_include_pad=False),
        _case("pairs, ceil, not counting", (1, 2, 5, 7), kernel_size=2, ceil_mode=True, count_include_pad=False),
        _case("divided by 3", (1, 2, 5, 6), kernel_size=2, divisor_override=3),
        _case("divided by -2", (1, 2, 5, 6), kernel_size=3, stride=1, padding=1, divisor_override=-2),
        _case("ceil, padded", (1, 2, 6, 7), kernel_size=4, stride=3, padding=2, ceil_mode=True),
        _case("whole, 16 cells", (2, 3, 4, 4), kernel_size=4),
        _case("5x5/5 of many", (1, 3, 20, 31), kernel_size=5),
    ),
    3: (_case("not counting", (1, 2, 4, 5, 6), kernel_size=2, padding=1, count_include_pad=False),),
}


def as_kernel(kernel_size: Any) -> tuple[int, ...]:
    return kernel_size if isinstance(kernel_size, tuple) else (kernel_size,)


def _cases(dims: int) -> tuple[Case, ...]:
    shared = tuple(
        replace(
            case,
            peer=case.peer and "dilation" not in case.arguments,
            small=case.small and set(as_kernel(case.arguments["kernel_size"])) <= {1, 2, 4},
        )
        for case in WINDOWS[dims]
        if case.name in SHARED[dims]
    )
    return (*shared, *ONLY_AVERAGES[dims])


def _value(dims: int) -> Callable[..., tuple[np.ndarray, ...]]:
    def function(x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        size = x.shape[-dims:]
        plain = {k: v for k, v in arguments.items() if k not in ("count_include_pad", "divisor_override")}
        places = loops.pooled_shape(loops.axes(size, **plain))
        return (loops.average(x, dims, loops.average_windows(size, **arguments), places),)

    return function


def _gradient(dims: int) -> Callable[..., tuple[np.ndarray, ...]]:
    def function(grad: np.ndarray, x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        size = x.shape[-dims:]
        return (loops.share_out(grad, loops.average_windows(size, **arguments), size),)

    return function


def _peer(dims: int) -> Callable[..., Tensor]:
    def function(x: Tensor, divisor_override: int | None = None, **arguments: Any) -> Tensor:
        more = {} if dims == 1 else {"divisor_override": divisor_override}
        if dims < 3:
            return TORCH_AVERAGE[dims](x, **arguments, **more)
        # Volumes: PyTorch's come back row-major, and it averages no half precision.
        half = x.dtype in (torch.float16, torch.bfloat16)
        result = TORCH_AVERAGE[dims](x.float() if half else x, **arguments, **more)
        return ops.layout.in_layout_of(x, result).to(x.dtype)

    return function


def _registered(dims: int) -> Callable[..., list[tuple[Any, tuple[Any, ...]]]]:
    def calls(x: Tensor, **arguments: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        size = list(x.shape[-dims:])
        rest = (arguments.pop("count_include_pad", True), float(arguments.pop("divisor_override", 0)))
        window = geometry.window(dims, **arguments, input_size=size).numbers
        pooled = torch.ops.switchgrad.avg_pool(x, window, *rest)
        last = ops.linear_maps.lies_channels_last(x, dims)
        return [
            (torch.ops.switchgrad.avg_pool.default, (x, window, *rest)),
            (torch.ops.switchgrad.avg_pool_spread.default, (pooled, size, window, *rest, last)),
        ]

    return calls


def avg_pool(dims: int) -> Operator:
    """The declaration of average pooling over ``dims`` axes."""
    return Operator(
        name=f"avg_pool{dims}d",
        function=AVERAGE[dims],
        cases=_cases(dims),
        reference=_value(dims),
        reference_gradient=_gradient(dims),
        peer=_peer(dims),
        exact=False,
        cancels=True,
        dtypes=FLOATS,
        samples=SAMPLES,
        laws=(laws.ShiftEquivariant(_strides),),
        large=LARGE[dims],
        saved_bytes=lambda case: 0,
        registered=_registered(dims),
        layer=lambda case: LAYER[dims](**case.arguments),
    )


def sum_pool(dims: int) -> Operator:
    """The declaration of sum pooling: whole numbers are added without rounding, so its laws hold exactly."""
    plain = {"count_include_pad": True, "divisor_override": 1}
    keep = ("overlapping", "dilated", "odd, ceil", "2x2/2", "3x2, all different", "1x2x2", "asymmetric, ceil", "same")
    return Operator(
        name=f"sum_pool{dims}d",
        function=SUM[dims],
        cases=tuple(case for case in WINDOWS[dims] if case.name in keep),
        reference=lambda x, **arguments: _value(dims)(x, **arguments, **plain),
        reference_gradient=lambda grad, x, **arguments: _gradient(dims)(grad, x, **arguments, **plain),
        exact=False,
        cancels=True,
        dtypes=FLOATS,
        samples=SAMPLES,
        laws=(laws.ShiftEquivariant(_strides), laws.Adjoint(), laws.Linear(), laws.Monotone()),
        saved_bytes=lambda case: 0,
        layer=lambda case: {1: nn.SumPool1d, 2: nn.SumPool2d, 3: nn.SumPool3d}[dims](**case.arguments),
    )


# ---- adaptive ----------------------------------------------------------------------------------------------------

SIZES = {
    1: (
        ((2, 2, 12), 4),
        ((1, 2, 7), 3),
        ((1, 2, 40), 1),
        ((1, 2, 3), 5),
        ((1, 1, 150), 61),
        ((1, 2, 250), 3),
        ((2, 2, 6), (None,)),
    ),
    2: (
        ((1, 2, 5, 6), (3, 4)),
        ((2, 2, 4, 6), 2),
        ((2, 3, 7, 5), 1),
        ((1, 2, 2, 3), (5, 3)),
        ((1, 2, 7, 9), (None, 4)),
        ((1, 35, 5, 4), (3, 4)),
        ((1, 2, 6, 40), (4, 2)),
        ((2, 70, 6, 5), 1),
    ),
    3: (((1, 1, 3, 4, 4), 2), ((1, 2, 4, 5, 6), (2, 3, 4)), ((2, 2, 2, 3, 4), 1)),
}


def _whole(dims: int, x: Any, output_size: Any) -> tuple[int, ...]:
    given = [output_size] * dims if isinstance(output_size, int) else output_size
    return tuple(h if p is None else p for h, p in zip(x.shape[-dims:], given, strict=True))


def adaptive_cases(dims: int) -> tuple[Case, ...]:
    """Input and output sizes that divide each other and that do not; the first is small."""
    return tuple(
        Case(f"{shape} to {places}", (shape,), {"output_size": places}, small=i == 0)
        for i, (shape, places) in enumerate(SIZES[dims])
    )


def adaptive_avg_pool(dims: int) -> Operator:
    """The declaration of adaptive average pooling over ``dims`` axes."""

    def value(x: np.ndarray, output_size: Any) -> tuple[np.ndarray, ...]:
        places = _whole(dims, x, output_size)
        return (loops.average(x, dims, loops.adaptive_windows(x.shape[-dims:], places), places),)

    def gradient(grad: np.ndarray, x: np.ndarray, output_size: Any) -> tuple[np.ndarray, ...]:
        size = x.shape[-dims:]
        return (loops.share_out(grad, loops.adaptive_windows(size, _whole(dims, x, output_size)), size),)

    def peer(x: Tensor, output_size: Any) -> Tensor:
        result = TORCH_ADAPTIVE[dims](x, output_size if dims > 1 else _whole(1, x, output_size))
        return ops.layout.in_layout_of(x, result)  # PyTorch's volumes come back row-major

    def registered(x: Tensor, output_size: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        places, last = list(_whole(dims, x, output_size)), ops.linear_maps.lies_channels_last(x, dims)
        pooled = torch.ops.switchgrad.adaptive_avg_pool(x, places)
        return [
            (torch.ops.switchgrad.adaptive_avg_pool.default, (x, places)),
            (torch.ops.switchgrad.adaptive_avg_pool_spread.default, (pooled, list(x.shape[-dims:]), last)),
        ]

    return Operator(
        name=f"adaptive_avg_pool{dims}d",
        function=ADAPTIVE[dims],
        cases=adaptive_cases(dims),
        reference=value,
        reference_gradient=gradient,
        peer=peer,
        exact=False,
        cancels=True,
        dtypes=FLOATS,
        samples=SAMPLES,
        large=(Case("large", (LARGE[dims][0].shapes[0],), {"output_size": (9, 7, 5)[:dims]}),),
        saved_bytes=lambda case: 0,
        registered=registered,
        layer=lambda case: ADAPTIVE_LAYER[dims](**case.arguments),
        grows=False,
    )
