"""Kinds of settings: each says in a sentence what it accepts, and reads a value or refuses it with that sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from switchgrad.errors import RunError

Reader: TypeAlias = Callable[[str, object], object]


def setting(default: object, help: str, reader: Reader, group: str) -> Any:
    """A dataclass field that carries its help text, its reader and the group of options that it belongs to."""
    return field(default=default, metadata={"help": help, "reader": reader, "group": group})


def refuse(name: str, value: object, wanted: str) -> RunError:
    """The error for a setting out of range: the field, the value, what was wanted.

    >>> print(refuse("epochs", 0, "a whole number from 1 to 100000"))
    epochs is 0; give a whole number from 1 to 100000
    """
    return RunError(f"{name} is {value!r}; give {wanted}")


def whole(low: int, high: int) -> Reader:
    """A whole number from ``low`` to ``high``.

    >>> whole(1, 9)("patience", 3)
    3
    """
    wanted = f"a whole number from {low} to {high}"

    def read(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise refuse(name, value, wanted)
        return value

    return read


def real(low: float, high: float, *, low_open: bool = False, high_open: bool = False) -> Reader:
    """A number from ``low`` to ``high``; an open end is itself refused. NaN is refused always.

    >>> real(0, 1, high_open=True)("momentum", 0)
    0.0
    """
    wanted = f"a number {'above' if low_open else 'from'} {low:g} {'and below' if high_open else 'to'} {high:g}"

    def read(name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise refuse(name, value, wanted)
        number = float(value)
        inside = (low < number if low_open else low <= number) and (number < high if high_open else number <= high)
        if not (math.isfinite(number) and inside):
            raise refuse(name, value, wanted)
        return number

    return read


@dataclass(frozen=True)
class OneOf:
    """One of a few words.

    >>> OneOf("sgd", "adamw")("optimizer", "sgd")
    'sgd'
    """

    choices: tuple[str, ...]

    def __init__(self, *choices: str) -> None:
        object.__setattr__(self, "choices", choices)

    def __call__(self, name: str, value: object) -> str:
        if value not in self.choices:
            raise refuse(name, value, "one of " + ", ".join(repr(choice) for choice in self.choices))
        return cast("str", value)


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely counts as one of them."""
    if not isinstance(value, bool):
        raise refuse(name, value, "true or false")
    return value


def text(name: str, value: object) -> str:
    """Text with at least one character."""
    if not isinstance(value, str) or not value.strip():
        raise refuse(name, value, "a name or a path")
    return value


def optional(reader: Reader) -> Reader:
    """What ``reader`` takes, or None.

    >>> optional(whole(1, 9))("threads", None) is None
    True
    """
    return lambda name, value: None if value is None else reader(name, value)


def wholes(low: int, high: int) -> Reader:
    """Rising whole numbers, perhaps none, as a tuple.

    >>> wholes(1, 99)("milestones", [30, 60])
    (30, 60)
    """
    wanted = f"rising whole numbers from {low} to {high}"

    def read(name: str, value: object) -> tuple[int, ...]:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            raise refuse(name, value, wanted)
        numbers = cast("Sequence[object]", value)
        if not all(isinstance(n, int) and not isinstance(n, bool) and low <= n <= high for n in numbers):
            raise refuse(name, value, wanted)
        result = tuple(cast("Sequence[int]", numbers))
        if list(result) != sorted(set(result)):
            raise refuse(name, value, wanted)
        return result

    return read


def height_width(name: str, value: object) -> tuple[int, int]:
    """A size in pixels: one whole number for a square, or (height, width); each from 1 to 4096.

    >>> height_width("image_size", 32), height_width("image_size", (24, 32))
    ((32, 32), (24, 32))
    """
    sides = cast("Sequence[object]", value) if isinstance(value, (tuple, list)) else (value, value)
    valid = len(sides) == 2 and all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 4096 for n in sides)
    if not valid:
        raise refuse(name, value, "a side in pixels from 1 to 4096, or a height and a width")
    height, width = cast("Sequence[int]", sides)
    return height, width


def options(name: str, value: object) -> dict[str, object]:
    """Named options of a model: true or false, numbers, text, or lists of those.

    >>> options("model_options", {"dropout": 0.5})
    {'dropout': 0.5}
    """
    wanted = "a table of names with true or false, finite numbers, text, or lists of those"
    if not isinstance(value, Mapping):
        raise refuse(name, value, wanted)
    table = cast("Mapping[object, object]", value)
    if not all(isinstance(key, str) and _plain(item) for key, item in table.items()):
        raise refuse(name, value, wanted)
    return {
        cast("str", key): list(cast("Any", item)) if isinstance(item, tuple) else item for key, item in table.items()
    }


def _plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) and not isinstance(item, (list, tuple)) for item in cast("Sequence[object]", value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, str)) or (isinstance(value, int) and -(2**63) <= value < 2**63)
