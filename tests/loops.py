"""What operators mean, once more, as plain Python loops: the independent judge of `switchgrad`'s own references.

Nothing here imports `switchgrad`. Arrays come in and go out as NumPy; bfloat16 travels as float32. Each function takes
the arguments of the operator it stands for and works cell by cell, so that it can be checked by reading.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Axis:
    """A window sliding along one axis of ``size`` cells."""

    size: int
    kernel: int
    stride: int
    begin: int
    end: int
    dilation: int
    ceil: bool

    def starts(self) -> list[int]:
        """The input coordinate of each window's first cell, found by sliding the window and looking."""
        last_cell = (self.kernel - 1) * self.dilation
        padded_end = self.size + self.end
        starts = []
        at = -self.begin
        while at + last_cell < padded_end:
            starts.append(at)
            at += self.stride
        cells_left_over = at - self.stride + last_cell < padded_end - 1
        if self.ceil and cells_left_over and at < self.size:
            starts.append(at)  # one more, partly outside, as it still starts in the input or in the padding before it
        return starts


def axes(
    size: Sequence[int],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> list[Axis]:
    """The windows over the spatial axes ``size``, from the short forms of the arguments."""
    dims = len(size)
    kernel = _each(kernel_size, dims)
    step = kernel if stride is None else _each(stride, dims)
    spread = _each(dilation, dims)
    if padding == "same":
        pads = [_same(*axis) for axis in zip(size, kernel, step, spread, strict=True)]
    elif padding == "valid":
        pads = [(0, 0)] * dims
    elif isinstance(padding, (tuple, list)) and isinstance(padding[0], (tuple, list)):
        pads = [tuple(pair) for pair in padding]
    else:
        pads = [(p, p) for p in _each(padding, dims)]
    return [
        Axis(h, r, s, b, e, d, ceil_mode) for h, r, s, (b, e), d in zip(size, kernel, step, pads, spread, strict=True)
    ]


def _each(value: Any, dims: int) -> list[int]:
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    return values * dims if len(values) == 1 else values


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    missing = 0
    while len(Axis(size, kernel, stride, 0, missing, dilation, False).starts()) < math.ceil(size / stride):
        missing += 1
    return missing // 2, missing - missing // 2


def windows(along: Sequence[Axis]) -> Iterator[list[tuple[int, int]]]:
    """For each place in row-major order, the window's cells inside the input: (offset in the window, flat index)."""
    row_major = [math.prod(axis.size for axis in along[i + 1 :]) for i in range(len(along))]
    for corner in itertools.product(*(axis.starts() for axis in along)):
        cells = []
        for offset, cell in enumerate(itertools.product(*(range(axis.kernel) for axis in along))):
            at = [start + c * axis.dilation for start, c, axis in zip(corner, cell, along, strict=True)]
            if all(0 <= where < axis.size for where, axis in zip(at, along, strict=True)):
                cells.append((offset, sum(where * step for where, step in zip(at, row_major, strict=True))))
        yield cells


def pooled_shape(along: Sequence[Axis]) -> tuple[int, ...]:
    """Places along each axis."""
    return tuple(len(axis.starts()) for axis in along)


def max_pool(x: np.ndarray, dims: int, **arguments: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, flat indices (-1: none) and offsets in the window (-1: none) of max pooling over the last ``dims`` axes.

    The first of several maxima wins; NaN wins over numbers, and a later NaN over an earlier one.
    """
    along = axes(x.shape[-dims:], **arguments)
    where = list(windows(along))
    lowest = -math.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    values, indices, offsets = [], [], []
    for plane in x.reshape(-1, math.prod(x.shape[-dims:])):
        numbers = plane.tolist()
        for cells in where:
            winner = None
            for cell in cells:
                number = numbers[cell[1]]
                if winner is None or number > numbers[winner[1]] or number != number:
                    winner = cell
            values.append(lowest if winner is None else plane[winner[1]])
            offsets.append(-1 if winner is None else winner[0])
            indices.append(-1 if winner is None else winner[1])
    shape = (*x.shape[:-dims], *pooled_shape(along))
    return (
        np.array(values, dtype=x.dtype).reshape(shape),
        np.array(indices, dtype=np.int64).reshape(shape),
        np.array(offsets, dtype=np.int64).reshape(shape),
    )


def average_windows(
    size: Sequence[int], *, count_include_pad: bool = True, divisor_override: int | None = None, **arguments: Any
) -> list[tuple[float, list[int]]]:
    """For each place in row-major order: what its sum is divided by, and the flat indices of its cells."""
    along = axes(size, **arguments)
    corners = itertools.product(*(axis.starts() for axis in along))
    found = []
    for corner, cells in zip(corners, windows(along), strict=True):
        padded = 1
        for start, axis in zip(corner, along, strict=True):
            ends = axis.size + axis.end
            padded *= sum(start + c * axis.dilation < ends for c in range(axis.kernel))
        divisor = divisor_override or (padded if count_include_pad else len(cells))
        found.append((divisor if divisor else 1, [index for _, index in cells]))
    return found


def adaptive_windows(size: Sequence[int], output_size: Sequence[int]) -> list[tuple[float, list[int]]]:
    """The windows of adaptive pooling, in the form of `average_windows`."""
    found = []
    for place in itertools.product(*map(range, output_size)):
        ranges = [
            range(math.floor(p * h / q), math.ceil((p + 1) * h / q))
            for p, h, q in zip(place, size, output_size, strict=True)
        ]
        cells = [sum(c * math.prod(size[i + 1 :]) for i, c in enumerate(at)) for at in itertools.product(*ranges)]
        found.append((len(cells), cells))
    return found


def average(x: np.ndarray, dims: int, where: list[tuple[float, list[int]]], places: Sequence[int]) -> np.ndarray:
    """The sums over windows by their divisors, in double."""
    planes = x.reshape(-1, math.prod(x.shape[-dims:])).tolist()
    values = [math.fsum(plane[i] for i in cells) / divisor for plane in planes for divisor, cells in where]
    return np.array(values, dtype=np.float64).reshape(*x.shape[:-dims], *places)


def maximum(
    x: np.ndarray, dims: int, where: list[tuple[float, list[int]]], places: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Maxima of windows in the form of `average_windows`, and their flat indices; the rules of `max_pool`."""
    values, indices = [], []
    for plane in x.reshape(-1, math.prod(x.shape[-dims:])):
        numbers = plane.tolist()
        for _, cells in where:
            winner = cells[0]
            for cell in cells[1:]:
                if numbers[cell] > numbers[winner] or numbers[cell] != numbers[cell]:
                    winner = cell
            values.append(plane[winner])
            indices.append(winner)
    shape = (*x.shape[:-dims], *places)
    return np.array(values, dtype=x.dtype).reshape(shape), np.array(indices, dtype=np.int64).reshape(shape)


def share_out(pooled: np.ndarray, where: list[tuple[float, list[int]]], size: Sequence[int]) -> np.ndarray:
    """Each pooled number by its divisor, added to every cell of its window, in double: the backward of `average`."""
    lead = pooled.shape[: -len(size)]
    result = np.zeros((math.prod(lead), math.prod(size)))
    for plane, numbers in enumerate(pooled.reshape(len(result), -1).tolist() if len(result) else ()):
        for number, (divisor, cells) in zip(numbers, where, strict=True):
            for at in cells:
                result[plane, at] += number / divisor
    return result.reshape(*lead, *size)


def put_back(pooled: np.ndarray, indices: np.ndarray, size: Sequence[int], *, add: bool) -> np.ndarray:
    """Each pooled number at its flat index in a map of ``size``, in row-major order, 0 elsewhere.

    Numbers that meet in a cell are added up (the backward of max pooling), or the last one stays (unpooling).
    """
    dims = len(size)
    lead = pooled.shape[:-dims]
    result = np.zeros((math.prod(lead), math.prod(size)), dtype=pooled.dtype)
    rows = zip(pooled.reshape(len(result), -1), indices.reshape(len(result), -1), strict=True) if len(result) else ()
    for plane, (numbers, places) in enumerate(rows):
        for number, at in zip(numbers, places.tolist(), strict=True):
            if at >= 0:
                result[plane, at] = result[plane, at] + number if add else number
    return result.reshape(*lead, *size)


def take(x: np.ndarray, indices: np.ndarray, dims: int) -> np.ndarray:
    """What each plane of ``x`` holds at its flat indices, 0 at index -1."""
    planes = x.reshape(-1, math.prod(x.shape[-dims:]))
    result = np.zeros((len(planes), math.prod(indices.shape[-dims:])), dtype=x.dtype)
    for plane, places in enumerate(indices.reshape(len(planes), -1)):
        for i, at in enumerate(places.tolist()):
            result[plane, i] = planes[plane, at] if at >= 0 else 0
    return result.reshape(indices.shape)


# ---- convolution -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filters:
    """A convolution's windows over rows and columns, and which input channels each group of filters reads."""

    along: tuple[Axis, Axis]
    groups: int

    @staticmethod
    def over(
        x: np.ndarray, weight: np.ndarray, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Filters:
        """From the short forms of the arguments."""
        along = axes(x.shape[-2:], weight.shape[-2:], stride=stride, padding=padding, dilation=dilation)
        return Filters((along[0], along[1]), groups)

    def padded(self, x: np.ndarray) -> np.ndarray:
        """Zeros around the rows and columns."""
        rows, columns = self.along
        pads = [(0, 0)] * (x.ndim - 2) + [(rows.begin, rows.end), (columns.begin, columns.end)]
        return np.pad(x, pads)

    def patch(self, row: int, column: int) -> tuple[slice, slice]:
        """Rows and columns of the padded input that the convolution output at (row, column) reads."""
        first, second = (
            slice(at * axis.stride, at * axis.stride + (axis.kernel - 1) * axis.dilation + 1, axis.dilation)
            for at, axis in zip((row, column), self.along, strict=True)
        )
        return first, second

    def split(self, weight: np.ndarray) -> list[slice]:
        """The filters of each group."""
        count = len(weight) // self.groups
        return [slice(i * count, (i + 1) * count) for i in range(self.groups)]

    def channels(self, k: int, weight: np.ndarray) -> slice:
        """Input channels that filter ``k`` reads."""
        count = weight.shape[1]
        group = k // (weight.shape[0] // self.groups)
        return slice(group * count, (group + 1) * count)


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, **arguments: Any) -> np.ndarray:
    """Convolution (cross-correlation, as PyTorch has it): to the bias each tap times what it sees, tap after tap."""
    filters = Filters.over(x, weight, **arguments)
    seen = filters.padded(x)
    rows, columns = (range(0, (len(axis.starts()) - 1) * axis.stride + 1, axis.stride) for axis in filters.along)
    result = np.zeros((len(x), len(weight), len(rows), len(columns)), dtype=x.dtype)
    for k in range(len(weight)):
        result[:, k] = 0 if bias is None else bias[k]
    with np.errstate(invalid="ignore"):
        for group in filters.split(weight):
            seen_by_group = seen[:, filters.channels(group.start, weight)]
            for c, r, s in np.ndindex(weight.shape[1:]):
                high, wide = (at * axis.dilation for at, axis in zip((r, s), filters.along, strict=True))
                there = seen_by_group[
                    :, c, high : high + rows.stop : rows.step, wide : wide + columns.stop : columns.step
                ]
                result[:, group] += weight[group, c, r, s][:, None, None] * there[:, None]
    return result


def conv_pool(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, relu: bool, **arguments: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convolution, perhaps a ReLU, and max pooling: values, flat indices into the convolution's map, offsets.

    Behind a ReLU a window whose maximum is not above 0 has no winner (-1). ``pool_...`` are the window's arguments.
    """
    filters, pool = apart(arguments)
    values, indices, offsets = max_pool(conv(x, weight, bias, **filters), 2, **pool)
    dead = (values <= 0) & (indices >= 0) if relu else np.zeros(values.shape, dtype=bool)
    return np.where(dead, 0, values).astype(x.dtype), np.where(dead, -1, indices), np.where(dead, -1, offsets)


def conv_pool_gradient(
    grad: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    relu: bool,
    **arguments: Any,
) -> tuple[np.ndarray, ...]:
    """Gradients of the input, the weights and, where there is one, the bias.

    Winner by winner: its patch times what came back is the filter's, its filter times what came back is the patch's. A
    winner of several windows has their sum. A sum of 0 sends nothing, whatever it would be multiplied with.
    """
    filters = Filters.over(x, weight, **apart(arguments)[0])
    _, indices, _ = conv_pool(x, weight, bias, relu=relu, **arguments)
    seen, columns = filters.padded(x), len(filters.along[1].starts())
    of_seen, of_weight, of_bias = np.zeros_like(seen), np.zeros_like(weight), np.zeros(len(weight), dtype=x.dtype)
    sums: dict[tuple[int, int, int], Any] = {}
    with np.errstate(invalid="ignore"):
        for (n, k, *_), at, sent in zip(np.ndindex(grad.shape), indices.flat, grad.flat, strict=True):
            if at >= 0:
                sums[n, k, int(at)] = sums.get((n, k, int(at)), x.dtype.type(0)) + sent
        for (n, k, at), sent in sums.items():
            if sent == 0:
                continue
            where = (n, filters.channels(k, weight), *filters.patch(*divmod(at, columns)))
            of_weight[k] += sent * seen[where]
            of_seen[where] += sent * weight[k]
            of_bias[k] += sent
    (top, left), (rows, wide) = (axis.begin for axis in filters.along), x.shape[-2:]
    of_input = of_seen[..., top : top + rows, left : left + wide]
    return (of_input, of_weight) if bias is None else (of_input, of_weight, of_bias)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, relu: bool) -> np.ndarray:
    """Each output: to its bias each input times its weight, input after input; what is not above 0 stops at a ReLU."""
    result = np.zeros((*x.shape[:-1], len(weight)), dtype=x.dtype)
    with np.errstate(invalid="ignore"):
        for n, row in enumerate(weight):
            for k, w in enumerate(row):
                result[..., n] += w * x[..., k]
            result[..., n] += 0 if bias is None else bias[n]
    return np.where(result <= 0, 0, result).astype(x.dtype) if relu else result


def linear_gradient(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, relu: bool
) -> tuple[np.ndarray, ...]:
    """Gradients of the input, the weight and, where there is one, the bias: output by output of each row."""
    passed = ~(linear(x, weight, bias, relu=True) <= 0) if relu else np.ones(grad.shape, dtype=bool)
    rows, sent = x.reshape(-1, x.shape[-1]), np.where(passed, grad, 0).astype(x.dtype).reshape(-1, len(weight))
    of_rows, of_weight, of_bias = np.zeros_like(rows), np.zeros_like(weight), np.zeros(len(weight), dtype=x.dtype)
    with np.errstate(invalid="ignore"):
        for m, n in np.ndindex(sent.shape):
            of_rows[m] += sent[m, n] * weight[n]
            of_weight[n] += sent[m, n] * rows[m]
            of_bias[n] += sent[m, n]
    of_input = of_rows.reshape(x.shape)
    return (of_input, of_weight) if bias is None else (of_input, of_weight, of_bias)


def mlp(x: np.ndarray, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None]) -> np.ndarray:
    """Layer after layer, with a ReLU behind each but the last."""
    for at, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = linear(x, weight, bias, relu=at + 1 < len(weights))
    return x


def mlp_gradient(
    grad: np.ndarray, x: np.ndarray, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, ...]:
    """Gradients of the input and of the parameters that there are: the last layer's first, each handing on its own."""
    found: tuple[np.ndarray, ...] = ()
    for at in reversed(range(len(weights))):
        given = mlp(x, weights[:at], biases[:at])
        given = np.where(given <= 0, 0, given) if at else x
        below, *own = linear_gradient(grad, given, weights[at], biases[at], relu=False)
        grad = np.where(given <= 0, 0, below) if at else below
        found = (*own, *found)
    return (grad, *found)


def lead(x: np.ndarray, **arguments: Any) -> np.ndarray:
    """By how much the winner of each window beats the next best: infinite where it is alone."""
    along = axes(x.shape[-2:], **arguments)
    where = [[at for _, at in cells] for cells in windows(along)]
    result = []
    for plane in x.reshape(-1, math.prod(x.shape[-2:])):
        for cells in where:
            best = sorted(plane[cells])[-2:]
            result.append(best[1] - best[0] if len(best) == 2 else math.inf)
    return np.array(result, dtype=np.float64).reshape(*x.shape[:-2], *pooled_shape(along))


def apart(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The convolution's arguments and the window's."""
    pool = {name.removeprefix("pool_"): v for name, v in arguments.items() if name.startswith("pool_")}
    pool["kernel_size"] = pool.pop("size", 2)
    pool["ceil_mode"] = arguments.get("ceil_mode", False)
    filters = {name: v for name, v in arguments.items() if not name.startswith("pool_") and name != "ceil_mode"}
    return filters, pool
