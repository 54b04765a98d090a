"""The idx files of the MNIST family: a big-endian header of sizes, then bytes; often inside gzip.

Nothing in a file is believed before it is checked: sizes are bounded before memory is taken for them, and a file
that is shorter or longer than its header says is refused.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from switchgrad.data.dataset import Split
from switchgrad.errors import DataError

Bytes = npt.NDArray[np.uint8]

_UINT8 = 0x08
_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_MOST_PICTURES = 1 << 24
_LONGEST_SIDE = 1 << 13
_MOST_BYTES = 1 << 32
_DEFLATE_RATIO = 1032  # no deflate stream holds more bytes than this for each byte of the file
_READ_BYTES = 1 << 20


def read_split(images: Path, labels: Path, first_label: int = 0, transposed: bool = False) -> Split:
    """Pictures and labels of two idx files as a `Split` with one channel.

    ``first_label`` is what the files call class 0. ``transposed`` turns pictures that were stored column by column
    (the EMNIST files) upright. Raises `DataError` for files that are not idx, damaged, or of different lengths.
    """
    return to_split(read(images, dims=3), read(labels, dims=1), str(labels), first_label, transposed)


def to_split(pictures: Bytes, numbers: Bytes, name: str, first_label: int = 0, transposed: bool = False) -> Split:
    """A `Split` from arrays ``[N, H, W]`` and ``[N]``; ``name`` is the label file's, for the error.

    >>> to_split(np.arange(4, dtype=np.uint8).reshape(1, 2, 2), np.array([7], np.uint8), "labels", 7, True).images
    tensor([[[[0, 2],
              [1, 3]]]], dtype=torch.uint8)
    """
    if len(pictures) != len(numbers):
        raise DataError(f"{name} holds {len(numbers)} labels, but there are {len(pictures)} pictures; get both again")
    if len(numbers) and int(numbers.min()) < first_label:
        raise DataError(f"{name} holds label {int(numbers.min())}; the first label of this data set is {first_label}")
    upright = np.ascontiguousarray(pictures.transpose(0, 2, 1)) if transposed else pictures
    return Split(torch.from_numpy(upright).unsqueeze(1), _labels(numbers, first_label))


def _labels(numbers: Bytes, first_label: int) -> Tensor:
    return torch.from_numpy(numbers).to(torch.int64) - first_label


def read(path: Path, dims: int) -> Bytes:
    """The array of an idx file of bytes with ``dims`` axes, plain or gzip (told by its first bytes, not its name).

    Raises `DataError` for a missing, damaged, truncated or overlong file, and for sizes beyond reason.
    """
    try:
        with path.open("rb") as file:
            return _read_file(file, path.stat().st_size, dims, str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {_reason(error)}; get the file again") from error


def read_bytes(data: bytes, dims: int, name: str) -> Bytes:
    """The same from a file's content in memory; ``name`` is for the errors."""
    return _read_file(io.BytesIO(data), len(data), dims, name)


def _read_file(file: io.BufferedIOBase, size: int, dims: int, name: str) -> Bytes:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return read_stream(file, dims, name, size)
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            return read_stream(unpacked, dims, name, size * _DEFLATE_RATIO)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {name}: {_reason(error)}; get the file again") from error


def read_stream(stream: io.BufferedIOBase, dims: int, name: str, at_most: int) -> Bytes:
    """The array of an idx stream; ``at_most`` is the number of bytes that the stream can hold, whatever it says.

    >>> import io
    >>> read_stream(io.BytesIO(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7])), 1, "example", 11)
    array([5, 6, 7], dtype=uint8)
    """
    shape = _header(stream, dims, name)
    count = math.prod(shape)
    if count + 4 + 4 * dims > min(at_most, _MOST_BYTES):
        raise DataError(f"{name} is truncated: its header promises {_shape(shape)} = {count} bytes; get the file again")
    array = np.empty(count, np.uint8)
    arrived = _fill(stream, array)
    if arrived < count:
        raise DataError(f"{name} is truncated: {arrived} of {count} bytes are there; get the file again")
    if stream.read(1):
        raise DataError(f"{name} is damaged: it goes on after the {_shape(shape)} bytes of its header; get it again")
    return array.reshape(shape)


def _header(stream: io.BufferedIOBase, dims: int, name: str) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{name} is not an idx file: it begins with {magic!r}; get the file again")
    if magic[2] != _UINT8:
        kind = _TYPES.get(magic[2], f"type {magic[2]:#04x}")
        raise DataError(f"{name} holds {kind} values; only idx files of bytes (uint8) can be read")
    if magic[3] != dims:
        raise DataError(f"{name} has {magic[3]} axes where {dims} are wanted; are images and labels exchanged?")
    sizes = stream.read(4 * dims)
    if len(sizes) < 4 * dims:
        raise DataError(f"{name} is truncated: its header ends early; get the file again")
    shape = struct.unpack(f">{dims}I", sizes)
    if not (0 < shape[0] <= _MOST_PICTURES) or any(not 0 < side <= _LONGEST_SIDE for side in shape[1:]):
        raise DataError(f"{name} has the size {_shape(shape)}, which no data set has; get the file again")
    return shape


def _fill(stream: io.BufferedIOBase, array: Bytes) -> int:
    """Read into ``array`` until it is full or the stream ends; returns the number of bytes that came."""
    view = array.data
    arrived = 0
    while arrived < len(view):
        got = stream.readinto(view[arrived : arrived + _READ_BYTES])
        if not got:
            break
        arrived += got
    return arrived


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
