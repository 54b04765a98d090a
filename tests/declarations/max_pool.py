"""Max pooling and unpooling declare themselves to the harness."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._prims_common import suggest_memory_format

import laws
import loops
from conform import FLOATS, Case, Operator
from harness.samples import seeded
from switchgrad import geometry, nn, ops

POOL = {1: ops.max_pool1d, 2: ops.max_pool2d, 3: ops.max_pool3d}
UNPOOL = {1: ops.max_unpool1d, 2: ops.max_unpool2d, 3: ops.max_unpool3d}
LAYER = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
TORCH_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
TORCH_UNPOOL = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}


def _case(name: str, shape: tuple[int, ...], **arguments: Any) -> Case:
    return Case(name, (shape,), arguments)


def _small(name: str, shape: tuple[int, ...], **arguments: Any) -> Case:
    return Case(name, (shape,), arguments, small=True)


def _ours_alone(name: str, shape: tuple[int, ...], **arguments: Any) -> Case:
    """Geometries that PyTorch refuses, or answers with an index outside the input."""
    return Case(name, (shape,), arguments, peer=False)


CASES = {
    1: (
        _small("pairs", (2, 2, 6), kernel_size=2),
        _small("overlapping", (1, 2, 7), kernel_size=3, stride=1, padding=1),
        _small("dilated", (1, 1, 9), kernel_size=2, stride=2, dilation=3, padding=1),
        _case("odd, floor", (2, 3, 9), kernel_size=2),
        _case("odd, ceil", (2, 3, 9), kernel_size=2, ceil_mode=True),
        _case("3/2 padded", (2, 3, 10), kernel_size=3, stride=2, padding=1),
        _case("ceil drops a window in the padding", (1, 2, 7), kernel_size=2, stride=3, padding=1, ceil_mode=True),
        _case("ceil, larger than the input", (1, 2, 2), kernel_size=3, stride=2, ceil_mode=True),
        _case("whole", (2, 2, 5), kernel_size=5),
        _case("one cell", (2, 2, 1), kernel_size=1),
        _case("hops", (2, 2, 11), kernel_size=2, stride=4),
        _case("one-cell window that hops", (1, 2, 11), kernel_size=1, stride=3),
        _case("wide pairs", (1, 2, 271), kernel_size=2),
        _case("wide 3/2", (1, 1, 275), kernel_size=3, stride=2, padding=1),
        _case("wide 3/1", (1, 1, 139), kernel_size=3, stride=1),
        _case("wide 5/3 dilated", (1, 1, 430), kernel_size=5, stride=3, dilation=2, padding=2),
        _case("300 cells in a window", (1, 2, 640), kernel_size=300, stride=50, padding=150),
        _case("pieces of a row", (1, 2, 301), kernel_size=70, stride=50, padding=20, ceil_mode=True),
        _ours_alone("left padding alone", (2, 2, 6), kernel_size=3, stride=2, padding=((2, 0),)),
        _ours_alone("right padding alone", (2, 2, 6), kernel_size=3, stride=2, padding=((0, 2),), ceil_mode=True),
        _ours_alone("padding of span - 1", (1, 2, 4), kernel_size=3, stride=1, dilation=2, padding=4),
        _ours_alone("windows without a cell", (1, 2, 2), kernel_size=2, stride=1, dilation=5, padding=5),
        _ours_alone("same", (2, 2, 10), kernel_size=3, stride=3, padding="same"),
    ),
    2: (
        _small("2x2/2", (2, 2, 4, 4), kernel_size=2),
        _small("3x3/2 padded", (1, 2, 5, 6), kernel_size=3, stride=2, padding=1),
        _small("3x2, all different", (1, 2, 6, 5), kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        _case("2x2/2 odd, floor", (2, 3, 7, 9), kernel_size=2),
        _case("2x2/2 odd, ceil", (2, 3, 7, 9), kernel_size=2, ceil_mode=True),
        _case("2x2/2 on 28x28", (1, 2, 28, 28), kernel_size=2),
        _case("3x3/1", (2, 3, 6, 7), kernel_size=3, stride=1, padding=1),
        _case("3x3/2 ceil", (1, 3, 8, 7), kernel_size=3, stride=2, ceil_mode=True),
        _case("3x3/3 ceil, padded", (1, 2, 7, 8), kernel_size=3, stride=3, padding=1, ceil_mode=True),
        _case("1x2", (2, 2, 5, 8), kernel_size=(1, 2)),
        _case("3x2/2", (2, 2, 9, 8), kernel_size=(3, 2), stride=2),
        _case("2x2/2 columns overlap", (1, 2, 6, 9), kernel_size=2, stride=(2, 1)),
        _case("2x2/2 rows overlap", (1, 2, 6, 9), kernel_size=2, stride=(1, 2)),
        _case("2x3", (2, 2, 7, 9), kernel_size=(2, 3), stride=(3, 2), padding=(0, 1)),
        _case("dilated", (2, 2, 9, 10), kernel_size=2, stride=2, dilation=(2, 3), padding=1),
        _case("whole", (2, 3, 5, 4), kernel_size=(5, 4)),
        _case("whole, 182 cells", (2, 2, 13, 14), kernel_size=(13, 14)),
        _case("whole, 342 cells", (1, 2, 19, 18), kernel_size=(19, 18)),
        _case("whole, many channels", (2, 139, 5, 4), kernel_size=(5, 4)),
        _case("as large as the map, half beside it", (2, 3, 4, 5), kernel_size=(4, 5), stride=6, padding=2),
        _case("one cell", (3, 2, 1, 1), kernel_size=1),
        _case("one cell, padded", (2, 2, 1, 1), kernel_size=3, padding=1),
        _case("hops", (2, 2, 8, 9), kernel_size=2, stride=3),
        _case("one channel", (2, 1, 6, 6), kernel_size=2),
        _case("one row", (2, 3, 1, 9), kernel_size=(1, 3), stride=(1, 2), padding=(0, 1)),
        _case("one column", (2, 3, 9, 1), kernel_size=(3, 1), stride=(2, 1), padding=(1, 0)),
        _case("wide", (1, 1, 4, 275), kernel_size=2),
        _case("wide 3x3/2", (1, 1, 5, 147), kernel_size=3, stride=2, padding=1),
        _case("many channels", (1, 139, 3, 4), kernel_size=2, stride=1),
        _case("many channels 3x3/2", (2, 67, 4, 3), kernel_size=3, stride=2, padding=1),
        _case("256 cells in a window", (1, 3, 19, 18), kernel_size=16, stride=2, padding=1),
        _case("255 cells in a window", (1, 2, 17, 16), kernel_size=(17, 15), stride=1, padding=(1, 0)),
        _case("254 cells in a window", (1, 2, 2, 128), kernel_size=(2, 127), stride=1, padding=(1, 0)),
        _ours_alone("asymmetric", (2, 2, 6, 7), kernel_size=3, stride=2, padding=((0, 2), (2, 1))),
        _ours_alone(
            "asymmetric, ceil", (2, 2, 6, 7), kernel_size=2, stride=2, padding=((1, 0), (0, 1)), ceil_mode=True
        ),
        _ours_alone("2x2/2, padded at the end", (1, 2, 5, 7), kernel_size=2, padding=((0, 1), (0, 1))),
        _ours_alone("padding of span - 1", (1, 2, 3, 4), kernel_size=(3, 2), stride=1, dilation=2, padding=(4, 2)),
        _ours_alone("windows without a cell", (2, 2, 2, 3), kernel_size=2, stride=1, dilation=4, padding=2),
        _ours_alone("same", (2, 2, 7, 8), kernel_size=3, stride=2, padding="same"),
        _ours_alone("valid", (2, 2, 7, 8), kernel_size=3, stride=2, padding="valid"),
    ),
    3: (
        _small("2x2x2", (1, 2, 2, 4, 4), kernel_size=2),
        _small("1x2x2", (1, 1, 3, 4, 4), kernel_size=(1, 2, 2)),
        _small("overlapping", (1, 1, 3, 4, 3), kernel_size=2, stride=1, padding=1),
        _case("odd, ceil", (2, 2, 3, 5, 7), kernel_size=2, ceil_mode=True),
        _case("3/2 padded", (1, 2, 5, 4, 6), kernel_size=3, stride=2, padding=1),
        _case("all different", (1, 2, 5, 6, 8), kernel_size=(2, 3, 2), stride=(1, 2, 3), padding=(1, 0, 1)),
        _case("dilated", (1, 2, 5, 6, 7), kernel_size=2, stride=1, dilation=(1, 2, 3), padding=(0, 1, 1)),
        _case("rows overlap", (1, 2, 4, 5, 6), kernel_size=2, stride=(1, 1, 2)),
        _case("whole", (2, 2, 2, 3, 4), kernel_size=(2, 3, 4)),
        _case("one cell", (2, 2, 1, 1, 1), kernel_size=1),
        _case("many channels", (1, 75, 2, 3, 3), kernel_size=2, stride=1),
        _case("wide", (1, 1, 2, 3, 141), kernel_size=2, stride=(1, 1, 2)),
        _case("343 cells in a window", (1, 1, 7, 8, 9), kernel_size=7, stride=2, padding=1),
        _ours_alone("asymmetric", (1, 2, 4, 5, 6), kernel_size=2, padding=((1, 0), (0, 1), (1, 1))),
        _ours_alone("windows without a cell", (1, 1, 2, 2, 2), kernel_size=2, stride=1, dilation=3, padding=2),
        _ours_alone("same", (1, 2, 5, 4, 7), kernel_size=3, stride=2, padding="same"),
    ),
}
LARGE = {
    1: (_case("large", (5, 7, 4099), kernel_size=3, stride=2, padding=1), _case("pairs", (5, 7, 4099), kernel_size=2)),
    2: (
        _case("large 2x2/2", (3, 20, 66, 67), kernel_size=2),
        _case("large 3x3/2", (3, 20, 60, 61), kernel_size=3, stride=2, padding=1),
    ),
    3: (_case("large", (2, 10, 11, 34, 37), kernel_size=(3, 2, 2), stride=2, padding=(1, 0, 0)),),
}


def _with_switches(dims: int) -> Callable[..., tuple[Tensor, ...]]:
    def function(x: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
        values, switches = POOL[dims](x, **arguments, return_switches=True)
        return values, switches.to_indices(), switches.codes

    return function


def _gradient(dims: int) -> Callable[..., tuple[np.ndarray, ...]]:
    def function(grad: np.ndarray, x: np.ndarray, **arguments: Any) -> tuple[np.ndarray, ...]:
        _, indices, _ = loops.max_pool(x, dims, **arguments)
        return (loops.put_back(grad, indices, x.shape[-dims:], add=True),)

    return function


def _strides(case: Case) -> tuple[int, ...] | None:
    """The stride along each axis; None where padding or a partial last window is in the way."""
    if case.arguments.get("padding", 0) != 0 or case.arguments.get("ceil_mode"):
        return None
    dims = len(case.shapes[0]) - 2
    return geometry.window(dims, case.arguments["kernel_size"], case.arguments.get("stride")).stride


def _codes_bytes(case: Case) -> int:
    shape = case.shapes[0]
    along = loops.axes(shape[2:], **case.arguments)
    cells = math.prod(axis.kernel for axis in along)
    return math.prod(shape[:2]) * math.prod(loops.pooled_shape(along)) * (1 if cells <= 254 else 2)


def _registered(dims: int) -> Callable[..., list[tuple[Any, tuple[Any, ...]]]]:
    def calls(x: Tensor, **arguments: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        size = list(x.shape[-dims:])
        window = geometry.window(dims, **arguments, input_size=size).numbers
        values, codes = torch.ops.switchgrad.max_pool(x, window)
        indices = torch.ops.switchgrad.max_pool_indices(codes, size, window)
        return [
            (torch.ops.switchgrad.max_pool.default, (x, window)),
            (torch.ops.switchgrad.max_pool_values.default, (x, window)),
            (torch.ops.switchgrad.max_pool_route.default, (values, codes, size, window)),
            (torch.ops.switchgrad.max_pool_gather.default, (x, codes, window)),
            (torch.ops.switchgrad.max_pool_indices.default, (codes, size, window)),
            (torch.ops.switchgrad.max_unpool.default, (values, indices, size)),
        ]

    return calls


def max_pool(dims: int) -> Operator:
    """The declaration of max pooling over ``dims`` axes."""
    return Operator(
        name=f"max_pool{dims}d",
        function=_with_switches(dims),
        values_only=POOL[dims],
        cases=CASES[dims],
        reference=lambda x, **arguments: loops.max_pool(x, dims, **arguments),
        reference_gradient=_gradient(dims),
        peer=lambda x, **arguments: TORCH_POOL[dims](x, **arguments, return_indices=True),
        laws=(
            laws.Monotone(),
            laws.CommutesWithIncreasing(),
            laws.ShiftEquivariant(_strides),
            laws.Adjoint(),
            laws.FullyConnected(),
            laws.Selects(),
            laws.Idempotent(lambda case: case.name == "one cell"),
        ),
        large=LARGE[dims],
        saved_bytes=_codes_bytes,
        registered=_registered(dims),
        layer=lambda case: LAYER[dims](**case.arguments),
    )


# ---- unpooling ---------------------------------------------------------------------------------------------------


def _draw_unpool(case: Case, draw: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Values of any kind, and the indices of a pooling of other numbers."""
    dims = len(case.shapes[0]) - 2
    x = torch.randn(case.shapes[0], generator=seeded("pooled", case.name), dtype=torch.float64)
    _, indices = TORCH_POOL[dims](x, *_window(case), return_indices=True)
    return draw(tuple(indices.shape)), indices


def _window(case: Case) -> tuple[Any, ...]:
    return case.arguments["kernel_size"], case.arguments["stride"], case.arguments["padding"]


def _unpool_case(name: str, shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any = 0, **flags: bool) -> Case:
    arguments = {"kernel_size": kernel, "stride": stride, "padding": padding, "output_size": shape[2:]}
    return Case(name, (shape,), arguments, **flags)


UNPOOL_CASES = {
    1: (
        _unpool_case("pairs", (2, 2, 8), 2, 2, small=True),
        _unpool_case("odd", (2, 3, 9), 2, 2),
        _unpool_case("hops", (2, 3, 11), 2, 3),
        _unpool_case("shared winners", (2, 2, 9), 3, 1, 1, peer=False, small=True),
    ),
    2: (
        _unpool_case("2x2/2", (2, 1, 4, 6), 2, 2, small=True),
        _unpool_case("odd", (2, 3, 7, 9), 2, 2),
        _unpool_case("3x2", (2, 2, 8, 9), (3, 2), (3, 2)),
        _unpool_case("shared winners", (1, 2, 3, 4), 3, 1, 1, peer=False, small=True),
    ),
    3: (
        _unpool_case("2x2x2", (1, 1, 2, 4, 4), 2, 2, small=True),
        _unpool_case("odd", (2, 2, 3, 5, 7), 2, 2),
        _unpool_case("shared winners", (1, 1, 3, 3, 2), 2, 1, peer=False, small=True),
    ),
}


def _put(values: np.ndarray, indices: np.ndarray, *, output_size: tuple[int, ...], **_: Any) -> tuple[np.ndarray]:
    return (loops.put_back(values, indices, output_size, add=False),)


def _put_gradient(grad: np.ndarray, values: np.ndarray, indices: np.ndarray, **arguments: Any) -> tuple[np.ndarray]:
    """A value gets what lies at its index, unless another value came to stand there later."""
    places = math.prod(indices.shape[-(grad.ndim - 2) :])
    order = np.arange(1, places + 1).reshape(indices.shape[2:])
    (stands,) = _put(np.broadcast_to(order, indices.shape), indices, **arguments)
    still_there = loops.take(stands, indices, grad.ndim - 2) == order
    return (np.where(still_there, loops.take(grad, indices, grad.ndim - 2), 0).astype(grad.dtype),)


def _in_its_layout(unpool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """PyTorch's unpooling of volumes is row-major whatever comes in; ours follows its input."""

    def call(x: Tensor, *given: Any, **arguments: Any) -> Tensor:
        return unpool(x, *given, **arguments).clone(memory_format=suggest_memory_format(x))

    return call


def max_unpool(dims: int) -> Operator:
    """The declaration of max unpooling by indices over ``dims`` axes."""
    return Operator(
        name=f"max_unpool{dims}d",
        function=UNPOOL[dims],
        cases=UNPOOL_CASES[dims],
        draw=_draw_unpool,
        reference=_put,
        reference_gradient=_put_gradient,
        peer=_in_its_layout(TORCH_UNPOOL[dims]),
        dtypes=FLOATS,
        laws=(laws.Monotone(), laws.Linear(), laws.Adjoint()),
        grows=False,
    )


# ---- adaptive ----------------------------------------------------------------------------------------------------


def adaptive_max_pool(dims: int, cases: tuple[Case, ...]) -> Operator:
    """The declaration of adaptive max pooling over ``dims`` axes."""
    pool = {1: ops.adaptive_max_pool1d, 2: ops.adaptive_max_pool2d, 3: ops.adaptive_max_pool3d}[dims]
    peer = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[dims]

    def whole(x: Any, output_size: Any) -> tuple[int, ...]:
        given = [output_size] * dims if isinstance(output_size, int) else output_size
        return tuple(h if p is None else p for h, p in zip(x.shape[-dims:], given, strict=True))

    def reference(x: np.ndarray, output_size: Any) -> tuple[np.ndarray, ...]:
        places = whole(x, output_size)
        values, indices = loops.maximum(x, dims, loops.adaptive_windows(x.shape[-dims:], places), places)
        return values, indices

    def gradient(grad: np.ndarray, x: np.ndarray, output_size: Any) -> tuple[np.ndarray, ...]:
        return (loops.put_back(grad, reference(x, output_size)[1], x.shape[-dims:], add=True),)

    return Operator(
        name=f"adaptive_max_pool{dims}d",
        function=lambda x, output_size: pool(x, output_size, return_indices=True),
        values_only=pool,
        cases=cases,
        reference=reference,
        reference_gradient=gradient,
        peer=lambda x, output_size: tuple(
            ops.layout.in_layout_of(x, t) for t in peer(x, whole(x, output_size), return_indices=True)
        ),
        dtypes=FLOATS,
        laws=(laws.Monotone(), laws.Adjoint(), laws.FullyConnected()),
        layer=lambda case: getattr(nn, f"AdaptiveMaxPool{dims}d")(**case.arguments),
        grows=False,
    )
