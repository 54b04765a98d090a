"""Windows over axes: output sizes, padding forms, receptive fields. The only Python copy of these formulas.

Letters: ``H`` input size, ``P`` output size, ``R`` kernel size, ``s`` stride, ``d`` dilation, ``b`` and ``e`` the
padding at the beginning and at the end of the axis. An effective kernel spans ``E = d (R - 1) + 1`` cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from typing import Any, TypeAlias, TypeVar, cast

import torch

from switchgrad.errors import GeometryError

R = TypeVar("R")
IntOrTuple: TypeAlias = "int | Sequence[int]"
Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = "int | Sequence[int] | Sequence[Pair] | str"
MOST = 2**31 - 1  # cells along an axis: a window, a step or a result beyond it is a mistake


def effective_kernel(kernel_size: int, dilation: int = 1) -> int:
    """Cells that a dilated kernel spans, its holes included: ``d (R - 1) + 1``.

    >>> effective_kernel(3, dilation=2)
    5
    """
    return dilation * (kernel_size - 1) + 1


def output_size(
    input_size: int,
    kernel_size: int,
    stride: int = 1,
    padding: Pair = (0, 0),
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """Places that a window takes along one axis: ``floor((H + b + e - E) / s) + 1``.

    With ``ceil_mode`` the quotient is rounded up, but the last window must start inside the input or the padding at
    the beginning, never in the padding at the end. The result may be 0 or negative where the kernel does not fit;
    `Window.output_size` refuses that in words.

    >>> output_size(227, 11, stride=4)                                  # AlexNet's first layer
    55
    >>> output_size(61, 3, stride=2), output_size(62, 3, stride=2, ceil_mode=True)
    (30, 31)
    """
    begin, end = padding
    room = input_size + begin + end - effective_kernel(kernel_size, dilation)
    if not ceil_mode:
        return room // stride + 1
    places = -(-room // stride) + 1
    return places - 1 if (places - 1) * stride >= input_size + begin else places


def same_padding(input_size: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> Pair:
    """Padding that gives ``ceil(H / s)`` places, the odd cell at the end (the rule of Keras and TensorFlow).

    >>> same_padding(28, 3), same_padding(28, 3, stride=2), same_padding(28, 2)
    ((1, 1), (0, 1), (0, 1))
    """
    places = -(-input_size // stride)
    total = max((places - 1) * stride + effective_kernel(kernel_size, dilation) - input_size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True, slots=True)
class Window:
    """A pooling or convolution window over the last ``len(kernel_size)`` axes, every form already written out.

    Make one with `window`, which reads the short forms and checks them.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[Pair, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    # The form in which the window travels to the kernels: sizes, strides, begins and ends, dilations, ceil mode.
    numbers: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sizes = (*self.kernel_size, *self.stride, *self.flat_padding, *self.dilation)
        object.__setattr__(self, "numbers", (*sizes, int(self.ceil_mode)))

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    @property
    def cells(self) -> int:
        """Cells in the window, row-major; their offsets are ``0 .. cells - 1``."""
        return math.prod(self.kernel_size)

    @property
    def effective(self) -> tuple[int, ...]:
        """Cells that the window spans along each axis, the holes of dilation included."""
        return tuple(effective_kernel(r, d) for r, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def overlaps(self) -> bool:
        """Whether an input cell can lie in more than one window."""
        return any(e > s for e, s in zip(self.effective, self.stride, strict=True))

    @property
    def flat_padding(self) -> list[int]:
        """``[b0, e0, b1, e1, ...]``, the form in which padding travels to the kernels."""
        return [cells for pair in self.padding for cells in pair]

    def output_size(self, input_size: Sequence[int]) -> tuple[int, ...]:
        """Places that the window takes along each axis of ``input_size``.

        Raises `GeometryError` where an axis is empty or the window fits nowhere.

        >>> window(2, 3, stride=2, padding=1).output_size((112, 112))
        (56, 56)
        """
        return tuple(self._places(axis, size) for axis, size in enumerate(input_size))

    def _places(self, axis: int, size: int) -> int:
        places = output_size(
            size,
            self.kernel_size[axis],
            self.stride[axis],
            self.padding[axis],
            self.dilation[axis],
            self.ceil_mode,
        )
        if size < 1:
            raise GeometryError(empty_axis(axis, size))
        if places < 1:
            raise GeometryError(kernel_too_large(axis, self.effective[axis], size, self.padding[axis]))
        return places


def empty_axis(axis: int, size: int) -> str:
    """The sentence for an input without cells along an axis (the C++ core says the same)."""
    return f"spatial axis {axis} of the input has size {size}; every axis but the batch needs at least 1 cell"


def kernel_too_large(axis: int, effective: int, size: int, padding: Pair) -> str:
    """The sentence for a window that fits nowhere (the C++ core says the same)."""
    return (
        f"the window spans {effective} cells along spatial axis {axis}, but the input has {size} and the padding adds "
        f"{padding[0]} + {padding[1]}; use a smaller kernel_size or dilation, or more padding"
    )


def window(
    dims: int,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    input_size: Sequence[int] | None = None,
) -> Window:
    """Read the short forms that people write into a `Window` over ``dims`` axes.

    ``kernel_size``, ``stride`` (default: ``kernel_size``) and ``dilation`` are an integer or one per axis.
    ``padding`` is an integer, one per axis (both sides alike), a ``(begin, end)`` pair per axis, ``"valid"`` (none)
    or ``"same"`` (see `same_padding`; needs ``input_size``). Each side may hold up to ``E - 1`` cells, so that every
    window has a cell in reach of the input.

    Raises `GeometryError` for sizes below 1, negative padding, padding of ``E`` or more, and wrong lengths.

    >>> window(2, 3, padding=((1, 0), (2, 2))).padding
    ((1, 0), (2, 2))
    >>> window(2, 3, stride=2, padding="same", input_size=(28, 27)).padding
    ((0, 1), (1, 1))
    >>> window(1, 2, padding=2)
    Traceback (most recent call last):
    switchgrad.errors.GeometryError: padding (2, 2) along spatial axis 0 reaches the window's span of 2 cells; ...
    """
    if isinstance(padding, str):
        return _named_padding(dims, kernel_size, stride, padding, dilation, ceil_mode, input_size)
    make = _window if torch.compiler.is_compiling() else _cached_window  # the compiler's tracer warns of caches
    return make(dims, _key(kernel_size), _key(stride), _key(padding), _key(dilation), bool(ceil_mode))


def window_of(numbers: Sequence[int]) -> Window:
    """The window whose ``numbers`` these are.

    >>> window_of(window(2, 3, 2, 1).numbers) == window(2, 3, 2, 1)
    True
    """
    dims = len(numbers) // 5
    kernel_size, stride, dilation = (tuple(numbers[at * dims : (at + 1) * dims]) for at in (0, 1, 4))
    pads = numbers[2 * dims : 4 * dims]
    return window(
        dims, kernel_size, stride, tuple(zip(pads[::2], pads[1::2], strict=True)), dilation, bool(numbers[-1])
    )


def fitting(
    dims: int,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Padding,
    dilation: IntOrTuple,
    ceil_mode: bool,
    input_size: Sequence[int],
) -> Window:
    """The `window` of these arguments, which is known to fit into an input of ``input_size``.

    >>> fitting(2, 3, 2, 1, 1, False, (112, 112)).stride
    (2, 2)
    """
    result = window(dims, kernel_size, stride, padding, dilation, ceil_mode, input_size)
    result.output_size(input_size)
    return result


def remembered(plan: Callable[..., R]) -> Callable[..., R]:
    """Keep what ``plan`` makes of an input's shape and the arguments of a call: making it takes longer than pooling
    a small map.

    Arguments are positional; what cannot be remembered (lists, sizes that a tracer leaves open) is made anew.

    >>> @remembered
    ... def halves(shape):
    ...     print("made")
    ...     return tuple(h // 2 for h in shape)
    >>> halves((4, 6)), halves((4, 6))
    made
    ((2, 3), (2, 3))
    """
    kept = lru_cache(maxsize=1024, typed=True)(plan)  # typed, because True equals 1 and is refused

    @wraps(plan)
    def planned(*arguments: Any) -> R:
        if not torch.compiler.is_compiling():  # the compiler's tracer warns of caches
            try:
                return kept(*arguments)
            except TypeError:
                pass
        return plan(*arguments)

    return planned


def _named_padding(
    dims: int,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    name: str,
    dilation: IntOrTuple,
    ceil_mode: bool,
    input_size: Sequence[int] | None,
) -> Window:
    if name not in ("same", "valid"):
        raise GeometryError(f'padding is "{name}"; give "same", "valid", an integer, or one integer or pair per axis')
    plain = window(dims, kernel_size, stride, 0, dilation, ceil_mode)
    if name == "valid":
        return plain
    if input_size is None:
        raise GeometryError('padding "same" depends on the input; give input_size as well')
    pads = tuple(
        same_padding(h, r, s, d)
        for h, r, s, d in zip(input_size, plain.kernel_size, plain.stride, plain.dilation, strict=True)
    )
    return Window(plain.kernel_size, plain.stride, pads, plain.dilation, plain.ceil_mode)


def _key(value: object) -> object:
    """The hashable form of a list or of nested lists, for `_cached_window`."""
    if isinstance(value, (list, tuple)):
        return tuple(_key(item) for item in cast("Sequence[object]", value))
    return value


def _window(dims: int, kernel_size: object, stride: object, padding: object, dilation: object, ceil: bool) -> Window:
    kernel = _per_axis("kernel_size", kernel_size, dims, minimum=1)
    result = Window(
        kernel,
        kernel if stride is None or stride == () else _per_axis("stride", stride, dims, minimum=1),
        _pairs(padding, dims),
        _per_axis("dilation", dilation, dims, minimum=1),
        ceil,
    )
    for axis, (pair, span) in enumerate(zip(result.padding, result.effective, strict=True)):
        if max(pair) >= span:
            raise GeometryError(padding_too_large(axis, pair, span))
    return result


_cached_window = lru_cache(maxsize=1024, typed=True)(_window)  # typed, because True equals 1 and is refused


def padding_too_large(axis: int, padding: Pair, span: int) -> str:
    """The sentence for padding that a window could fall into altogether (the C++ core says the same)."""
    return (
        f"padding ({padding[0]}, {padding[1]}) along spatial axis {axis} reaches the window's span of {span} cells; "
        f"use at most {span - 1} on each side"
    )


def _per_axis(name: str, value: object, dims: int, minimum: int) -> tuple[int, ...]:
    """``value`` as one integer per axis, each at least ``minimum``."""
    values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,) * dims
    if len(values) == 1:
        values = values * dims
    if len(values) != dims or not all(is_integer(v) for v in values):
        raise GeometryError(f"{name} is {value!r}; give an integer, or {dims} of them, one per spatial axis")
    integers = tuple(int(cast("int", v)) for v in values)
    if min(integers) < minimum:
        raise GeometryError(f"{name} is {value!r}; every entry must be at least {minimum}")
    if max(integers) > MOST:
        raise GeometryError(f"{name} is {value!r}; every entry must be at most 2^31 - 1")
    return integers


def _pairs(padding: object, dims: int) -> tuple[Pair, ...]:
    if isinstance(padding, tuple) and padding and all(isinstance(side, tuple) for side in padding):
        sides = cast("tuple[tuple[object, ...], ...]", padding)
        if len(sides) != dims or any(len(side) != 2 for side in sides):
            raise GeometryError(f"padding is {padding!r}; give one (begin, end) pair for each of {dims} spatial axes")
        return tuple(cast("Pair", _per_axis("padding", side, 2, minimum=0)) for side in sides)
    return tuple((cells, cells) for cells in _per_axis("padding", padding, dims, minimum=0))


def is_integer(value: object) -> bool:
    """Whether ``value`` counts something: an integer of Python's, NumPy's or the tracer's, and no boolean."""
    # int first: the compiler's tracer stands for integers that it leaves open, and cannot answer the second question.
    return (isinstance(value, int) or hasattr(value, "__index__")) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one cell of a layer sees of the input along one axis: ``size`` cells, neighbours ``jump`` cells apart.

    ``start`` is the centre of the first cell's field, counted from the centre of input cell 0 (it may be negative
    or halfway between two cells).
    """

    size: int = 1
    jump: int = 1
    start: float = 0.0

    def through(self, kernel_size: int, stride: int = 1, padding: Pair = (0, 0), dilation: int = 1) -> ReceptiveField:
        """The field after one more window: ``size + (E - 1) jump`` (Araujo et al., Distill 2019).

        >>> two_blocks = ReceptiveField().through(10).through(2, 2).through(10).through(2, 2)
        >>> ReceptiveField().through(10).through(2, 2).size, two_blocks.size
        (11, 31)
        """
        span = effective_kernel(kernel_size, dilation)
        return ReceptiveField(
            self.size + (span - 1) * self.jump,
            self.jump * stride,
            self.start + ((span - 1) / 2 - padding[0]) * self.jump,
        )
