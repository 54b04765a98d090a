"""What each cell of a map sees of the input, followed through a whole forward pass.

Layers with a window widen what their cells see by `geometry.ReceptiveField`; everything between layers is followed by
the names of the functions that are called. Whatever is not known here makes the answer unknown, never a guess.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor
from torch.overrides import TorchFunctionMode

from switchgrad.geometry import ReceptiveField, Window


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_ARITHMETIC = _words(
    "add radd iadd sub rsub isub subtract mul rmul imul multiply div rdiv idiv truediv rtruediv itruediv divide",
    "neg abs sign pow rpow exp log sqrt rsqrt square clamp clamp_min clamp_max clip maximum minimum where lerp",
)
_ACTIVATIONS = _words(
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardtanh hardsigmoid hardswish sigmoid logsigmoid tanh",
    "softplus softsign softshrink hardshrink tanhshrink threshold prelu rrelu",
)
_DROPOUT = _words("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout")
_NORMALISATION = _words("batch_norm group_norm instance_norm layer_norm rms_norm local_response_norm normalize")
_COPIES = _words("clone contiguous to float double half bfloat16 type detach requires_grad")
_MAPS = _words("cat concat concatenate chunk split tensor_split pad channel_shuffle")

POINTWISE = _ARITHMETIC | _ACTIVATIONS | _DROPOUT | _NORMALISATION | _COPIES | _MAPS
"""Functions after which every cell sees as much as the cells at its place did before; of several, the most.

Normalisation is among them: what its statistics gather from the whole map is left out, as is usual. Padding moves
cells without widening what they see. All need an output with as many spatial axes as the input.
"""

RESHAPES = frozenset({"flatten", "view", "reshape", "squeeze"})
WHOLE_MAP = frozenset({"mean", "amax", "sum", "logsumexp"})
ADAPTIVE = frozenset(f"adaptive_{kind}_pool{dims}d" for kind in ("avg", "max") for dims in (1, 2, 3))


@dataclass(frozen=True, slots=True)
class Sight:
    """What the cells of a map see: one field and one size per spatial axis; ``flat`` once the map is unrolled."""

    fields: tuple[ReceptiveField, ...]
    size: tuple[int, ...]
    flat: bool = False

    def through(self, window: Window, size: tuple[int, ...]) -> Sight:
        """After a window has slid over the map and left one of ``size``."""
        axes = zip(self.fields, window.kernel_size, window.stride, window.padding, window.dilation, strict=True)
        return Sight(tuple(field.through(r, s, p, d) for field, r, s, p, d in axes), size)

    def whole(self) -> Sight:
        """After something that sees every cell of the map at once, as a dense layer does."""
        fields = tuple(field.through(cells) for field, cells in zip(self.fields, self.size, strict=True))
        return Sight(fields, (1,) * len(self.size), flat=True)


Known = Sight | None
"""A sight, or None where it is not known what the cells see."""


class Sights:
    """The sight of every tensor alive, by identity."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], Known]] = {}
        self._constants: dict[int, weakref.ref[Tensor]] = {}

    def put(self, tensor: Tensor, sight: Known) -> None:
        """Note what the cells of ``tensor`` see."""
        self._known[id(tensor)] = (weakref.ref(tensor), sight)

    def put_constant(self, tensor: Tensor) -> None:
        """Note that ``tensor`` does not depend on the input (a weight, a buffer)."""
        self._constants[id(tensor)] = weakref.ref(tensor)

    def get(self, tensor: Tensor) -> Known:
        """What the cells of ``tensor`` see."""
        reference, sight = self._known.get(id(tensor), (None, None))
        return sight if reference is not None and reference() is tensor else None

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is known not to depend on the input."""
        reference = self._constants.get(id(tensor))
        return reference is not None and reference() is tensor


class Follow(TorchFunctionMode):
    """While active, notes what the result of every function sees, and reports the name of each function called."""

    def __init__(self, sights: Sights, called: Callable[[str], None]) -> None:
        super().__init__()
        self._sights = sights
        self._called = called

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        inputs = tensors_in((args, kwargs or {}))
        moving = [tensor for tensor in inputs if not self._sights.is_constant(tensor)]
        before = [(self._sights.get(tensor), tuple(tensor.shape)) for tensor in moving]
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", "")).strip("_")
        if moving:
            self._called(name)
        if name == "setitem":
            self._sights.put(args[0], None)
        for output in tensors_in(result):
            if moving:
                self._sights.put(output, _after(name, before, tuple(output.shape)))
            else:
                self._sights.put_constant(output)
        return result


def _after(name: str, before: list[tuple[Known, tuple[int, ...]]], shape: tuple[int, ...]) -> Known:
    """What the cells of a function's output of ``shape`` see, given the sights and shapes of its inputs."""
    sights = [sight for sight, _ in before if sight is not None]
    if len(sights) < len(before):
        return None
    if name in POINTWISE:
        return _join(sights, shape)
    if len(sights) > 1:
        return None
    sight, inputs = sights[0], before[0][1]
    if name == "linear":
        return sight.whole() if sight.flat and len(shape) == 2 else None
    if name in RESHAPES:
        return _reshaped(sight, inputs, shape)
    if sight.flat or len(inputs) != len(sight.size) + 2:
        return None
    if name in WHOLE_MAP:
        return _gathered(sight, inputs, shape)
    return _adapted(sight, shape) if name in ADAPTIVE else None


def _join(sights: list[Sight], shape: tuple[int, ...]) -> Known:
    """The widest sight along each axis, where all maps have as many axes."""
    first = sights[0]
    if any(sight.flat != first.flat or len(sight.size) != len(first.size) for sight in sights):
        return None
    fields = tuple(
        ReceptiveField(max(field.size for field in axis), max(field.jump for field in axis))
        for axis in zip(*(sight.fields for sight in sights), strict=True)
    )
    if first.flat:
        return replace(first, fields=fields)
    return Sight(fields, shape[2:]) if len(shape) == len(fields) + 2 else None


def _reshaped(sight: Sight, inputs: tuple[int, ...], shape: tuple[int, ...]) -> Known:
    """The same sight, unrolled to ``[N, values]`` or unchanged; nothing else is followed."""
    if shape == inputs:
        return sight
    unrolled = len(shape) == 2 and shape == (inputs[0], math.prod(inputs[1:]))
    return replace(sight, flat=True) if unrolled else None


def _gathered(sight: Sight, inputs: tuple[int, ...], shape: tuple[int, ...]) -> Known:
    """The whole map, where a mean or maximum left one cell of each of its channels."""
    if shape == inputs[:2]:
        return sight.whole()
    return replace(sight.whole(), flat=False) if shape == inputs[:2] + (1,) * len(sight.size) else None


def _adapted(sight: Sight, shape: tuple[int, ...]) -> Known:
    """An adaptive pool is an ordinary one where its output divides its input."""
    size = shape[2:]
    if len(size) != len(sight.size) or any(cells % places for cells, places in zip(sight.size, size, strict=True)):
        return None
    kernel = tuple(cells // places for cells, places in zip(sight.size, size, strict=True))
    return sight.through(Window(kernel, kernel, ((0, 0),) * len(size), (1,) * len(size)), size)


def tensors_in(value: object) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(cast("dict[object, object]", value).values())
    if isinstance(value, list | tuple):
        return [tensor for item in cast("list[object]", value) for tensor in tensors_in(item)]
    return []
