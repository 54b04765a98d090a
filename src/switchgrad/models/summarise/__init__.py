"""What a network is made of: a row a layer, for any module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from switchgrad.errors import ModelError
from switchgrad.models.summarise.facts import is_known, is_view, macs_of, misfit, switch_bytes, window_of
from switchgrad.models.summarise.forward import Call, layers_in, watch
from switchgrad.models.summarise.table import aligned, axes, by, human_bytes

__all__ = ["Row", "Summary", "summary"]

_HEADINGS = ("layer", "type", "output", "parameters", "MACs", "memory", "switches", "sees", "jump", "note")
_LEFT = frozenset({0, 1, 2, 9})


@dataclass(frozen=True, slots=True)
class Row:
    """One call of one layer, for one picture.

    ``output_shape`` has no batch. ``parameters`` counts a shared weight in its first row only. ``macs`` is None where
    no rule is known. ``activation_bytes`` is the layer's output (0 where it lies in the memory of its input),
    ``switch_bytes`` what a max pooling layer keeps besides to find its winners again. ``receptive_field`` and ``jump``
    are per spatial axis, in pixels of the input, padding included; None where it cannot be known.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    macs: int | None
    activation_bytes: int
    switch_bytes: int
    receptive_field: tuple[int, ...] | None
    jump: tuple[int, ...] | None
    note: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows of a network and their totals; ``str`` of it is a plain table, `to_dict` is ready for JSON.

    ``uncounted`` names the weighty functions (convolution, pooling, matrix products) that a ``forward`` calls itself,
    not through a layer: they have no row, and their multiply-adds and maps are in no total.
    """

    model: str
    input_shape: tuple[int, ...]
    dtype: str
    value_bytes: int
    rows: tuple[Row, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """All parameters, each counted once."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Parameters that require a gradient."""
        return sum(row.trainable for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds for one picture, over the layers whose rule is known."""
        return sum(row.macs or 0 for row in self.rows)

    @property
    def macs_complete(self) -> bool:
        """Whether `macs` is the whole: every layer has a rule, and no weighty function is called outside of layers."""
        return not self.uncounted and all(row.macs is not None for row in self.rows)

    @property
    def input_bytes(self) -> int:
        """The picture itself, in ``dtype``."""
        return math.prod(self.input_shape) * self.value_bytes

    @property
    def parameter_bytes(self) -> int:
        """The parameters, in ``dtype``."""
        return self.parameters * self.value_bytes

    @property
    def activation_bytes(self) -> int:
        """The outputs of all layers for one picture, the picture itself not among them."""
        return sum(row.activation_bytes for row in self.rows)

    @property
    def switch_bytes(self) -> int:
        """What all max pooling layers keep to find their winners again."""
        return sum(row.switch_bytes for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Rows and totals as dictionaries, lists, numbers and text."""
        return {
            "model": self.model,
            "input_shape": list(self.input_shape),
            "dtype": self.dtype,
            "rows": [{key: _plain(value) for key, value in asdict(row).items()} for row in self.rows],
            "uncounted": list(self.uncounted),
            "totals": {
                "parameters": self.parameters,
                "trainable": self.trainable,
                "macs": self.macs,
                "macs_complete": self.macs_complete,
                "input_bytes": self.input_bytes,
                "parameter_bytes": self.parameter_bytes,
                "activation_bytes": self.activation_bytes,
                "switch_bytes": self.switch_bytes,
            },
        }

    def __str__(self) -> str:
        """A table of plain text: aligned, no colour, no line wrapped."""
        title = f"{self.model}, input {by(self.input_shape)} ({human_bytes(self.input_bytes)}), {self.dtype}"
        lines = aligned([_HEADINGS, *(_cells(row) for row in self.rows)], _LEFT)
        rule = "-" * max(map(len, lines))
        return "\n".join([title, "", lines[0], rule, *lines[1:], rule, *self._totals()])

    def _totals(self) -> list[str]:
        frozen = self.parameters - self.trainable
        at_least = "" if self.macs_complete else "at least "
        rows = [
            ("parameters", f"{self.parameters:,}" + (f", of them {frozen:,} frozen" if frozen else "")),
            ("", f"{human_bytes(self.parameter_bytes)} in {self.dtype}"),
            ("MACs", f"{at_least}{self.macs:,} a picture"),
            ("activations", f"{human_bytes(self.activation_bytes)} a picture"),
            ("switches", f"{human_bytes(self.switch_bytes)} a picture, kept by max pooling for the backward pass"),
        ]
        if self.uncounted:
            names = ", ".join(dict.fromkeys(self.uncounted))
            rows.append(("not counted", f"{names}, called outside of layers; a layer would have a row"))
        return aligned(rows, frozenset({0, 1}))


def summary(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    input_dtype: torch.dtype | None = None,
    strict: bool = False,
) -> Summary:
    """Say of every layer what it puts out, costs, keeps and sees, for one input of ``input_shape`` (without batch).

    Works for any module. It runs once in eval mode, without gradients and, where that is possible, without touching
    any values, and is left as it was. Memory counts ``dtype``: number of values times its bytes, 1024 bytes a KB.
    ``input_dtype`` is for modules that want integers, by default that of the first floating-point weight.

    A note says where a window does not divide its input, so that cells at the end are left over (``floor``) or missing
    (``ceil_mode``). With ``strict`` that is an error. What cells see follows every layer in a row, sums, concatenated
    maps (the widest counts) and a dense layer after flattening (which sees all); after anything else it is unknown.

    Raises `ModelError` for a shape that is none or that the module cannot take, and, with ``strict``, for a window
    that does not divide its input.

    >>> net = nn.Sequential(nn.Conv2d(3, 96, 11, stride=4))
    >>> summary(net, (3, 227, 227)).rows[0].output_shape
    (96, 55, 55)
    >>> summary(net, (3, 224, 224)).rows[0].note
    'does not divide: (224-11)/4+1 = 54.25 is not an integer'
    >>> summary(net, (3, 224, 224), strict=True)
    Traceback (most recent call last):
    switchgrad.errors.ModelError: layer "0" (Conv2d) does not divide its input: (224-11)/4+1 = 54.25 is not an ...
    """
    shape = _shape(input_shape)
    module = getattr(module, "_orig_mod", module)  # what torch.compile wrapped
    layers = layers_in(module)
    record = watch(module, layers, shape, input_dtype)
    book = _Book(dtype.itemsize)
    rows = [book.row(call, strict) for call in record.calls]
    rows += [row for layer, name in layers.items() if (row := book.left_out(layer, name)) is not None]
    name = str(dtype).removeprefix("torch.")
    return Summary(type(module).__name__, shape, name, dtype.itemsize, tuple(rows), tuple(record.uncounted))


def _shape(value: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(value)
    if not shape or not all(_is_size(size) for size in shape):
        raise ModelError(f"input_shape is {value!r}; give whole numbers of at least 1, without the batch: (1, 28, 28)")
    return shape


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class _Book:
    """Makes rows from calls, and remembers which weights and layers have been counted."""

    def __init__(self, value_bytes: int) -> None:
        self._value_bytes = value_bytes
        self._owners: dict[nn.Parameter, str] = {}
        self._called: set[nn.Module] = set()

    def row(self, call: Call, strict: bool) -> Row:
        """The row of one call."""
        layer = call.layer
        problem = self._problem(call)
        if problem and strict:
            raise ModelError(
                f'layer "{call.name}" ({type(layer).__name__}) does not divide its input: {problem}; change the '
                f"input, the padding or the stride, or leave strict out"
            )
        notes = [f"does not divide: {problem}"] if problem else []
        parameters, trainable = self._count(layer, call.name, notes)
        macs = macs_of(layer, call.inputs, call.outputs)
        if macs is None:
            notes.append("MACs not known")
        sight = call.sight
        return Row(
            name=call.name,
            type=type(layer).__name__,
            output_shape=call.outputs[1:],
            parameters=parameters,
            trainable=trainable,
            macs=macs,
            activation_bytes=0 if is_view(layer) else call.values * self._value_bytes,
            switch_bytes=switch_bytes(layer, math.prod(call.outputs)),
            receptive_field=None if sight is None else tuple(field.size for field in sight.fields),
            jump=None if sight is None or sight.flat else tuple(field.jump for field in sight.fields),
            note="; ".join(notes),
        )

    def left_out(self, layer: nn.Module, name: str) -> Row | None:
        """A row for a layer that the forward pass did not call (its weights may be used all the same); else None."""
        if layer in self._called:
            return None
        notes = ["not called"]
        parameters, trainable = self._count(layer, name, notes)
        return Row(name, type(layer).__name__, (), parameters, trainable, 0, 0, 0, None, None, "; ".join(notes))

    def _problem(self, call: Call) -> str:
        window = window_of(call.layer, call.inputs[2:])
        return "" if window is None else misfit(window, call.inputs[2:])

    def _count(self, layer: nn.Module, name: str, notes: list[str]) -> tuple[int, int]:
        """Parameters and trainable ones that no earlier row has counted."""
        if layer in self._called:
            notes.append("called again")
            return 0, 0
        self._called.add(layer)
        own = list(layer.parameters(recurse=is_known(layer)))
        fresh = [parameter for parameter in own if parameter not in self._owners]
        shared = {self._owners[parameter] for parameter in own if parameter in self._owners}
        notes.extend(f"shares weights with {owner}" for owner in sorted(shared))
        self._owners.update(dict.fromkeys(fresh, name))
        trainable = sum(parameter.numel() for parameter in fresh if parameter.requires_grad)
        return sum(parameter.numel() for parameter in fresh), trainable


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.type,
        by(row.output_shape) or "-",
        f"{row.parameters:,}",
        "?" if row.macs is None else f"{row.macs:,}",
        human_bytes(row.activation_bytes),
        human_bytes(row.switch_bytes) if row.switch_bytes else "-",
        axes(row.receptive_field),
        axes(row.jump),
        row.note,
    )
