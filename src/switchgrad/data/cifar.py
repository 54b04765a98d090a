"""CIFAR-10 and CIFAR-100, from the binary files, from the Python files, or from the official archive of either.

A binary record is the label (for CIFAR-100 the coarse label, then the fine one) and 3,072 bytes: the red, the green
and the blue plane, row by row. The Python files are pickles; they are read by `unpickle`, which runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from switchgrad.data import archives, unpickle
from switchgrad.data.dataset import Split
from switchgrad.errors import DataError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_LARGEST_FILE = 1 << 28
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Layout:
    """How a version of CIFAR lies on disk: its folder, its files, and where the label is."""

    folder: str
    archive: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    meta: str
    label_bytes: int  # of a binary record, the last of which counts; 0 for the Python files
    label_key: str
    names_key: str

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that holds pictures."""
        return self.train + self.val


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "cifar10": (
        Layout(
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            train=tuple(f"{batch}.bin" for batch in _BATCHES),
            val=("test_batch.bin",),
            meta="batches.meta.txt",
            label_bytes=1,
            label_key="labels",
            names_key="label_names",
        ),
        Layout(
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            train=_BATCHES,
            val=("test_batch",),
            meta="batches.meta",
            label_bytes=0,
            label_key="labels",
            names_key="label_names",
        ),
    ),
    "cifar100": (
        Layout(
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            train=("train.bin",),
            val=("test.bin",),
            meta="fine_label_names.txt",
            label_bytes=2,
            label_key="fine_labels",
            names_key="fine_label_names",
        ),
        Layout(
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            train=("train",),
            val=("test",),
            meta="meta",
            label_bytes=0,
            label_key="fine_labels",
            names_key="fine_label_names",
        ),
    ),
}


@dataclass(frozen=True)
class Place:
    """Where a version of CIFAR was found: ``path`` is the folder with its files, or its archive."""

    name: str
    layout: Layout
    path: Path


def find(folder: Path, names: tuple[str, ...] = tuple(LAYOUTS)) -> Place | None:
    """The first version of ``names`` in ``folder``: its files, a folder of them, or an archive; None without any.

    A version counts as found as soon as one of its files is there, so that a missing one can be named.
    """
    for name in names:
        for layout in LAYOUTS[name]:
            for path in (folder, folder / layout.folder):
                if any((path / file).is_file() for file in layout.files):
                    return Place(name, layout, path)
            for archive in (folder, folder / layout.archive):
                if archive.name == layout.archive and archive.is_file():
                    return Place(name, layout, archive)
    return None


def read(place: Place, default_classes: tuple[str, ...]) -> tuple[Split, Split, tuple[str, ...]]:
    """Training split, validation split and class names; the names are ``default_classes`` where no file holds them.

    Raises `DataError` for missing, damaged, truncated or untrustworthy files.
    """
    files = _contents(place)
    missing = [name for name in place.layout.files if name not in files]
    if missing:
        raise DataError(f"{place.path} lacks {', '.join(missing)} of {place.name}; get the files again")
    train, val = (_split(place, names, files) for names in (place.layout.train, place.layout.val))
    return train, val, _class_names(place, files) or default_classes


def _contents(place: Place) -> dict[str, bytes]:
    """The files of a place that are there, by name."""
    wanted = (*place.layout.files, place.layout.meta)
    if place.path.is_file():
        inside = archives.tar_members(place.path, {f"{place.layout.folder}/{name}" for name in wanted})
        return {name.rpartition("/")[2]: content for name, content in inside.items()}
    present = [name for name in wanted if (place.path / name).is_file()]
    return {name: _content(place.path / name) for name in present}


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise DataError(f"{path} has {size:,} bytes, which no CIFAR file has; get the file again")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; get the file again") from error


def _split(place: Place, names: tuple[str, ...], files: dict[str, bytes]) -> Split:
    parts = [_batch(place.layout, files[name], str(place.path / name)) for name in names]
    images = torch.cat([images for images, _ in parts])
    return Split(images, torch.cat([labels for _, labels in parts]))


def _batch(layout: Layout, content: bytes, name: str) -> tuple[Tensor, Tensor]:
    if layout.label_bytes:
        return read_binary(content, layout.label_bytes, name)
    return read_python(content, layout.label_key, name)


def read_binary(content: bytes, label_bytes: int, name: str) -> tuple[Tensor, Tensor]:
    """Pictures uint8 ``[N, 3, 32, 32]`` and labels int64 ``[N]`` of a binary file whose records have ``label_bytes``.

    The last label byte counts: CIFAR-100's fine label. Raises `DataError` unless the file is whole records.

    >>> images, labels = read_binary(bytes([7]) + bytes(range(256)) * 12, 1, "example")
    >>> images[0, 0, 0, :3], labels
    (tensor([0, 1, 2], dtype=torch.uint8), tensor([7]))
    """
    record = label_bytes + _PIXELS
    if not content or len(content) % record:
        raise DataError(
            f"{name} is truncated: its {len(content):,} bytes are no whole number of records of {record:,} bytes; "
            "get the file again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    images = torch.from_numpy(records[:, label_bytes:].copy()).reshape(-1, 3, _SIDE, _SIDE)
    return images, torch.from_numpy(records[:, label_bytes - 1].astype(np.int64))


def read_python(content: bytes, label_key: str, name: str) -> tuple[Tensor, Tensor]:
    """The same from a Python file: a pickled dictionary of ``data`` (uint8 ``[N, 3072]``) and ``label_key``."""
    entries = unpickle.loads(content, name)
    data, labels = entries.get("data"), entries.get(label_key)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS or not len(data):
        raise DataError(f"{name} holds no array 'data' of [N, {_PIXELS}] bytes; get the file again")
    numbers = cast("list[Any]", labels) if isinstance(labels, list) else []
    if len(numbers) != len(data) or not all(type(number) is int and 0 <= number < _MOST_CLASSES for number in numbers):
        raise DataError(f"{name} holds no list {label_key!r} of {len(data)} labels; get the file again")
    images = torch.from_numpy(np.array(data, order="C")).reshape(-1, 3, _SIDE, _SIDE)
    return images, torch.tensor(numbers, dtype=torch.int64)


def _class_names(place: Place, files: dict[str, bytes]) -> tuple[str, ...]:
    """The names in the meta file, none where there is none."""
    content = files.get(place.layout.meta)
    if content is None:
        return ()
    if place.layout.label_bytes:
        return tuple(line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip())
    names = unpickle.loads(content, str(place.path / place.layout.meta)).get(place.layout.names_key)
    texts = cast("list[Any]", names) if isinstance(names, list) else []
    return tuple(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in texts)
