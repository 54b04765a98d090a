"""A folder of pictures, one sub-folder a class: which files belong to it, and to which class and split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from switchgrad.data import images
from switchgrad.errors import DataError

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "valid", "test")
"""Folder names of a validation split; the first that is there is used."""

# What operating systems and tools leave behind; hidden files go the same way.
_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "__pycache__", "icon\r"}
# Pictures in formats that are not read: listed as bad, so that nobody believes them to be trained on.
_OTHER_PICTURES = {
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".psd", ".svg", ".eps", ".ico", ".tga"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raw"),
}


@dataclass(frozen=True)
class Item:
    """A file that should be a picture: where it is, its path relative to the data set's folder, and its class."""

    path: Path
    name: str
    class_name: str

    @property
    def shown(self) -> str:
        """``name`` fit for a terminal: what cannot be printed is escaped.

        >>> Item(Path(), "a/tab\\there.png", "a").shown
        'a/tab\\\\there.png'
        """
        return self.name if self.name.isprintable() else ascii(self.name)[1:-1]


@dataclass(frozen=True)
class Listing:
    """What an image folder holds. ``val`` is None where it has no validation folder of its own.

    ``empty`` are class folders without pictures, ``stray`` files outside of class folders or of other kinds, and
    ``unused`` folders that take no part; all are relative to ``root``.
    """

    root: Path
    train: tuple[Item, ...]
    val: tuple[Item, ...] | None
    empty: tuple[str, ...]
    stray: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """Every picture, training first."""
        return self.train + (self.val or ())


@dataclass(frozen=True)
class _Classes:
    items: tuple[Item, ...]
    empty: tuple[str, ...]
    stray: tuple[str, ...]


def find(root: Path) -> Listing:
    """List the pictures of an image folder, sorted by class and name.

    Either ``root`` holds ``train`` and one of `VAL_NAMES`, or ``train`` alone, or the class folders themselves. Class
    folders may hold folders; hidden files and the litter of operating systems are passed over. Raises `DataError`
    where there are no class folders or no pictures.
    """
    with images.quiet():
        return _find(root)


def _find(root: Path) -> Listing:
    folders = {path.name.lower(): path for path in _entries(root) if path.is_dir()}
    vals = [folders[name] for name in VAL_NAMES if name in folders]
    train = next((folders[name] for name in TRAIN_NAMES if _is_split(folders.get(name), vals)), None)
    if train is None:
        _refuse_lone_val(root, folders, vals)
        return _listing(root, _classes(root, root), None, (), ())
    unused = [path for path in folders.values() if path not in (train, *vals[:1])]
    stray = [path.name for path in _entries(root) if path.is_file()]
    held_out = _classes(root, vals[0]) if vals else None
    return _listing(root, _classes(root, train), held_out, tuple(stray), tuple(path.name for path in unused))


def _is_split(folder: Path | None, vals: list[Path]) -> bool:
    """Whether a folder called train holds class folders; beside cars and ships it may be a class itself."""
    return folder is not None and (bool(vals) or any(path.is_dir() for path in _entries(folder)))


def _refuse_lone_val(root: Path, folders: dict[str, Path], vals: list[Path]) -> None:
    if vals and len(vals) == len(folders):
        raise DataError(
            f"{root} holds {vals[0].name}/ but no train/; name the folder of training pictures train/, or give "
            "the folder of class folders itself"
        )


def _listing(
    root: Path, train: _Classes, val: _Classes | None, stray: tuple[str, ...], unused: tuple[str, ...]
) -> Listing:
    if not train.items:
        raise DataError(_no_pictures(root, train))
    if val is not None and not val.items:
        raise DataError(
            f"{root} has a validation folder without pictures; fill it, or remove it to hold out a part of the others"
        )
    found = (train, val) if val else (train,)
    return Listing(
        root,
        train.items,
        val.items if val else None,
        tuple(name for part in found for name in part.empty),
        stray + tuple(name for part in found for name in part.stray),
        unused,
    )


def _no_pictures(root: Path, train: _Classes) -> str:
    advice = "put the pictures of each class into a folder of its own, as in train/cats/1.jpg"
    if train.stray and not train.empty:
        return f"{root} holds files but no class folders; {advice}"
    if train.empty:
        return f"{root} holds class folders without pictures ({', '.join(train.empty[:5])}); {advice}"
    return f"{root} holds neither pictures nor a data set that is known; {advice}"


def _classes(root: Path, folder: Path) -> _Classes:
    """The pictures of every class folder in ``folder``."""
    items: list[Item] = []
    empty: list[str] = []
    stray: list[str] = []
    for entry in _entries(folder):
        if not entry.is_dir():
            stray.append(entry.relative_to(root).as_posix())
            continue
        judged = [(path, path.relative_to(root).as_posix(), _should_be_picture(path)) for path in _files(entry)]
        items += [Item(path, name, entry.name) for path, name, good in judged if good]
        stray += [name for _, name, good in judged if not good]
        if not any(good for _, _, good in judged):
            empty.append(entry.relative_to(root).as_posix())
    return _Classes(tuple(items), tuple(empty), tuple(stray))


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without litter."""
    try:
        return sorted(path for path in folder.iterdir() if not _is_litter(path.name))
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}; give a folder that can be read") from error


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a class folder, sorted; links to folders are not followed, so that there are no circles."""
    for parent, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = sorted(name for name in folders if not _is_litter(name))
        yield from (Path(parent) / name for name in sorted(names) if not _is_litter(name))


def _refuse_unreadable(error: OSError) -> None:
    raise DataError(f"cannot list {error.filename}: {error.strerror}; give a folder that can be read") from error


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _should_be_picture(path: Path) -> bool:
    """By its suffix, or, where the suffix says nothing, by its content."""
    suffix = path.suffix.lower()
    return suffix in images.SUFFIXES or suffix in _OTHER_PICTURES or (path.is_file() and images.is_picture(path))
