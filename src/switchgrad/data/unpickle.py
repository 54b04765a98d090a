"""Plain data out of a pickle file, without running anything in it: what CIFAR's Python files need, and no more.

Python's own ``pickle`` calls whatever a file names. Here a small machine reads the opcodes instead: numbers, text,
bytes, lists, tuples, dictionaries with text as keys, and arrays of bytes as NumPy writes them. The few functions
that such a file may name are played by functions of this module; anything else is refused by name. No size in a
file is believed: an opcode can only use bytes that are there, and none makes more than it uses.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from switchgrad.errors import DataError

Plain: TypeAlias = Any
"""What a plain pickle holds: None, bool, int, float, bytes, str, list, tuple, dict, or a uint8 array."""

_LONGEST_NAME = 256
_MOST_STEPS = 2_000_000  # CIFAR-100's largest file takes 250,000; every step makes at most one small object


class _RefusedError(Exception):
    """Why a pickle is not read; `loads` turns it into a sentence with the file's name."""


class _Mark:
    """Where a list, tuple or dictionary begins on the stack."""


class _NdarrayType:
    """Stands for ``numpy.ndarray`` where a pickle names the type of an array that it is going to build."""


@dataclass
class _DType:
    code: str


@dataclass
class _Array:
    """An array that NumPy's pickles make empty first and fill afterwards."""

    values: npt.NDArray[np.uint8] | None = None


def _empty_array(_args: tuple[Plain, ...]) -> Plain:
    return _Array()


def _dtype(args: tuple[Plain, ...]) -> Plain:
    code = args[0] if args else ""
    return _DType(code.decode("latin-1") if isinstance(code, bytes) else str(code)[:_LONGEST_NAME])


def _array_from_buffer(args: tuple[Plain, ...]) -> Plain:
    if len(args) != 4:
        raise _RefusedError("it is damaged: an array lacks a part")
    raw, dtype, shape, order = args
    return _Array(_bytes_array(raw, dtype, shape, order == "F"))


def _bytes_array(raw: Plain, dtype: Plain, shape: Plain, fortran: bool) -> npt.NDArray[np.uint8]:
    if not isinstance(dtype, _DType) or dtype.code not in ("u1", "|u1", "uint8"):
        code = dtype.code if isinstance(dtype, _DType) else "unknown"
        raise _RefusedError(f"it holds an array of {code!r}, and only arrays of bytes ('u1') are read")
    if not isinstance(raw, bytes) or not isinstance(shape, tuple):
        raise _RefusedError("it is damaged: an array lacks a part")
    sizes = cast("tuple[Plain, ...]", shape)
    if len(sizes) > 8 or not all(type(size) is int and size >= 0 for size in sizes) or math.prod(sizes) != len(raw):
        raise _RefusedError(f"it is damaged: an array does not have the {len(raw)} bytes of its shape")
    return np.frombuffer(raw, np.uint8).reshape(sizes, order="F" if fortran else "C")


_GLOBALS: dict[str, Plain] = {
    "numpy.ndarray": _NdarrayType,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy._core.multiarray._reconstruct": _empty_array,
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "numpy._core.numeric._frombuffer": _array_from_buffer,
}


def loads(data: bytes, name: str) -> dict[str, Plain]:
    """The dictionary in the pickle ``data``, its keys as text; ``name`` is the file's, for the errors.

    Protocols 2 to 5 are read; texts of Python 2 come out as bytes, arrays of bytes as uint8. Raises `DataError` for
    a damaged or truncated pickle, for an opcode or a global outside the plain ones, and for anything but a
    dictionary at the top.

    >>> loads(bytes([0x80, 2]) + b"}U" + bytes([6]) + b"labels]K" + bytes([7]) + b"as.", "example")
    {'labels': [7]}
    >>> loads(bytes([0x80, 2]) + b"cposix" + bytes([10]) + b"system" + bytes([10]) + b".", "example")
    Traceback (most recent call last):
    switchgrad.errors.DataError: example is not read: it names 'posix.system', which plain data does not need; ...
    """
    try:
        result = _run(_Machine(data))
    except _RefusedError as refused:
        raise DataError(f"{name} is not read: {refused}; get the file again from its official source") from None
    if not isinstance(result, dict):
        raise DataError(f"{name} is not read: it holds {type(result).__name__} where a dictionary is wanted")
    return {key: _finished(value) for key, value in cast("dict[str, Plain]", result).items()}


def _finished(value: Plain) -> Plain:
    return value.values if isinstance(value, _Array) else value


@dataclass
class _Machine:
    """The data, the place in it, the stack of values under construction, and the values noted for later use."""

    data: bytes
    at: int = 0
    stack: list[Plain] = field(default_factory=list)
    memo: dict[int, Plain] = field(default_factory=dict)

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if self.at + size > len(self.data):
            raise _RefusedError("it is truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes."""
        self.take(size)

    def number(self, form: str) -> int:
        """The next number, packed in the way that ``struct`` calls ``form``."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """The text up to the next line feed."""
        end = self.data.find(b"\n", self.at, self.at + _LONGEST_NAME)
        if end < 0:
            raise _RefusedError("it is truncated")
        text = self.data[self.at : end].decode("latin-1")
        self.at = end + 1
        return text

    def push(self, value: Plain) -> None:
        self.stack.append(value)

    def pop(self) -> Plain:
        """The last value; a mark is not one."""
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise _RefusedError("it is damaged: it uses a value that is not there")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Plain]:
        """All values after the last mark, which goes too."""
        for depth in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[depth], _Mark):
                items = self.stack[depth + 1 :]
                del self.stack[depth:]
                return items
        raise _RefusedError("it is damaged: it ends a list that never began")

    def note(self, index: int) -> None:
        """Keep the last value under ``index``."""
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        """Push the value noted under ``index``."""
        if index not in self.memo:
            raise _RefusedError("it is damaged: it refers to a value that is not there")
        self.push(self.memo[index])


def _run(machine: _Machine) -> Plain:
    for _ in range(_MOST_STEPS):
        opcode = machine.take(1)
        if opcode == b".":
            return machine.pop()
        step = _OPCODES.get(opcode)
        if step is None:
            raise _RefusedError(f"it uses the opcode {opcode!r}, which plain data does not need")
        step(machine)
    raise _RefusedError(f"it takes more than {_MOST_STEPS:,} steps to build")


def _global(machine: _Machine, name: str) -> None:
    if name not in _GLOBALS:
        raise _RefusedError(f"it names {name!r}, which plain data does not need")
    machine.push(_GLOBALS[name])


def _global_by_lines(machine: _Machine) -> None:
    module = machine.line()
    _global(machine, f"{module}.{machine.line()}")


def _global_by_stack(machine: _Machine) -> None:
    attribute, module = machine.pop(), machine.pop()
    if not isinstance(attribute, str) or not isinstance(module, str):
        raise _RefusedError("it is damaged: a name is not text")
    _global(machine, f"{module}.{attribute}"[:_LONGEST_NAME])


def _reduce(machine: _Machine) -> None:
    args, function = machine.pop(), machine.pop()
    played = function in (_dtype, _empty_array, _array_from_buffer) if callable(function) else False
    if not played or not isinstance(args, tuple):
        raise _RefusedError("it is damaged: it calls what is not a function")
    machine.push(cast("Callable[[tuple[Plain, ...]], Plain]", function)(cast("tuple[Plain, ...]", args)))


def _build(machine: _Machine) -> None:
    state, target = machine.pop(), machine.pop()
    if isinstance(target, _Array):
        if not isinstance(state, tuple) or len(cast("tuple[Plain, ...]", state)) != 5:
            raise _RefusedError("it is damaged: an array lacks a part")
        _version, shape, dtype, fortran, raw = cast("tuple[Plain, ...]", state)
        target.values = _bytes_array(raw, dtype, shape, fortran is True)
    elif not isinstance(target, _DType):  # a dtype's state (byte order and the like) means nothing to bytes
        raise _RefusedError("it is damaged: it fills what is neither array nor dtype")
    machine.push(target)


def _set_items(machine: _Machine, items: list[Plain]) -> None:
    target = machine.pop()
    if not isinstance(target, dict) or len(items) % 2:
        raise _RefusedError("it is damaged: it adds entries to what is not a dictionary")
    entries = cast("dict[str, Plain]", target)
    for key, value in zip(items[::2], items[1::2], strict=True):
        entries[_key(key)] = value
    machine.push(entries)


def _key(key: Plain) -> str:
    """Text only: the hash of a deeply nested tuple could exhaust the interpreter's stack."""
    if isinstance(key, bytes):
        return key.decode("latin-1")
    if not isinstance(key, str):
        raise _RefusedError("it holds a dictionary whose keys are not text")
    return key


def _append(machine: _Machine, items: list[Plain]) -> None:
    target = machine.pop()
    if not isinstance(target, list):
        raise _RefusedError("it is damaged: it appends to what is not a list")
    cast("list[Plain]", target).extend(items)
    machine.push(target)


def _last_two(machine: _Machine) -> list[Plain]:
    second, first = machine.pop(), machine.pop()
    return [first, second]


def _tuple_of(machine: _Machine, count: int) -> None:
    items = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(items)))


def _text(machine: _Machine, size: int) -> None:
    try:
        machine.push(machine.take(size).decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        raise _RefusedError("it is damaged: it holds text that is not UTF-8") from None


_OPCODES: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: m.skip(1),  # protocol
    b"\x95": lambda m: m.skip(8),  # frame: a hint for readers of streams
    b"(": lambda m: m.push(_Mark()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")),
    b"\x8a": lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    b"G": lambda m: m.push(m.number(">d")),
    b"U": lambda m: m.push(m.take(m.number("<B"))),  # Python 2's texts are bytes
    b"T": lambda m: m.push(m.take(m.number("<I"))),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),  # a bytearray: the buffer of an array
    b"X": lambda m: _text(m, m.number("<I")),
    b"\x8c": lambda m: _text(m, m.number("<B")),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"a": lambda m: _append(m, [m.pop()]),
    b"e": lambda m: _append(m, m.pop_to_mark()),
    b"s": lambda m: _set_items(m, _last_two(m)),
    b"u": lambda m: _set_items(m, m.pop_to_mark()),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"\x85": lambda m: _tuple_of(m, 1),
    b"\x86": lambda m: _tuple_of(m, 2),
    b"\x87": lambda m: _tuple_of(m, 3),
    b"q": lambda m: m.note(m.number("<B")),
    b"r": lambda m: m.note(m.number("<I")),
    b"\x94": lambda m: m.note(len(m.memo)),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"c": _global_by_lines,
    b"\x93": _global_by_stack,
    b"R": _reduce,
    b"b": _build,
}
