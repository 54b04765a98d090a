"""Where the files of a named data set lie on this machine, and what to say where they do not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from switchgrad.data import cifar, download
from switchgrad.data.dataset import Progress
from switchgrad.data.sources import EMNIST_ARCHIVE, SOURCES, IdxFiles, RemoteFile, Source
from switchgrad.errors import DataError

_ZIP_NAMES = (EMNIST_ARCHIVE.name, "emnist.zip", "EMNIST.zip")
_SUFFIXES = {"images": "idx3-ubyte", "labels": "idx1-ubyte"}


@dataclass(frozen=True)
class IdxPlace:
    """Files of the MNIST family: each entry of ``files`` is a split's images and labels.

    They are paths, or, where ``archive`` is set, names of members of that zip file.
    """

    files: Mapping[str, tuple[Path, Path]]
    archive: Path | None = None


def store() -> Path:
    """The folder that downloads go to: ``$SWITCHGRAD_DATA``, else ``switchgrad`` in the user's cache folder."""
    chosen = os.environ.get("SWITCHGRAD_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/switchgrad``, or ``~/.cache/switchgrad`` where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "switchgrad"


def folders(source: Source, root: Path | None) -> list[Path]:
    """The folders where the files of ``source`` may lie, in the order in which they are looked at."""
    bases = [base for base in (root, store(), cache_folder()) if base is not None]
    inside = [*(source.name, *source.folders), ""]
    return list(dict.fromkeys(base / name if name else base for base in bases for name in inside))


def locate_idx(source: Source, root: Path | None, may_download: bool, progress: Progress | None) -> IdxPlace:
    """The files of a data set of the MNIST family: the first folder that holds all of them, else a download."""
    found = next((place for folder in folders(source, root) if (place := find_idx(source, folder))), None)
    if found is None:
        found = find_idx(source, _download(source, root, may_download, progress))
    if found is None:
        raise DataError(_not_found(source, root, "the downloaded files are not there any more"))
    _refuse_namesake(source, found)
    return found


def locate_cifar(source: Source, root: Path | None, may_download: bool, progress: Progress | None) -> cifar.Place:
    """The files of CIFAR-10 or CIFAR-100: the first folder that holds any version, else a download."""
    names = (source.name,)
    found = next((place for folder in folders(source, root) if (place := cifar.find(folder, names))), None)
    if found is None:
        found = cifar.find(_download(source, root, may_download, progress), names)
    if found is None:
        raise DataError(_not_found(source, root, "the downloaded archive is not there any more"))
    return found


def find_idx(source: Source, folder: Path) -> IdxPlace | None:
    """All files of ``source`` in this very folder, or its archive there; None where any is missing."""
    if source.idx is None:
        return None
    train, val = idx_pair(folder, source.idx.train), idx_pair(folder, source.idx.val)
    if train and val:
        return IdxPlace({"train": train, "val": val})
    archive = next((folder / name for name in _ZIP_NAMES if (folder / name).is_file()), None)
    if archive and EMNIST_ARCHIVE in source.files:
        return IdxPlace({"train": _member_pair(source.idx.train), "val": _member_pair(source.idx.val)}, archive)
    return None


def idx_pair(folder: Path, stem: str) -> tuple[Path, Path] | None:
    """The images and labels files with this stem (``{kind}`` in it), gzip or not; None unless both are there.

    Both spellings that are about are taken: ``train-images-idx3-ubyte`` and ``train-images.idx3-ubyte``.
    """
    found = [_idx_file(folder, stem.format(kind=kind), suffix) for kind, suffix in _SUFFIXES.items()]
    images, labels = found
    return (images, labels) if images and labels else None


def _idx_file(folder: Path, stem: str, suffix: str) -> Path | None:
    spellings = (f"{stem}{sign}{suffix}{packed}" for sign in "-." for packed in ("", ".gz"))
    return next((folder / name for name in spellings if (folder / name).is_file()), None)


def _member_pair(stem: str) -> tuple[Path, Path]:
    images, labels = (Path(f"{stem.format(kind=kind)}-{suffix}.gz") for kind, suffix in _SUFFIXES.items())
    return images, labels


def recognise(labels: Path) -> str | None:
    """The name of the data set whose official training labels this file holds, None for any other file."""
    try:
        digest = hashlib.sha256(labels.read_bytes()).hexdigest()
    except OSError:
        return None
    sources = SOURCES.values()
    return next((source.name for source in sources for file in source.files if file.sha256 == digest), None)


def _refuse_namesake(source: Source, place: IdxPlace) -> None:
    """MNIST, Fashion-MNIST and Kuzushiji-MNIST call their files alike; the labels tell them apart."""
    labels = place.files["train"][1]
    held = None if place.archive else recognise(labels)
    if held is not None and held != source.name:
        raise DataError(
            f"{labels.parent} holds {held}, not {source.name}: the files have the same names; put those of "
            f"{source.name} into a folder called {source.name} and give the folder that holds it as --data-root (root=)"
        )


def _download(source: Source, root: Path | None, may_download: bool, progress: Progress | None) -> Path:
    """Fetch whatever files are not in the store yet; returns their folder."""
    if not may_download:
        raise DataError(_not_found(source, root, "downloading is switched off"))
    folder = store() / (source.name if EMNIST_ARCHIVE not in source.files else "emnist")
    for file in source.files:
        if not _has(folder, file):
            try:
                download.fetch(file, folder, progress)
            except DataError as error:
                raise DataError(_not_found(source, root, str(error))) from error
    return folder


def _has(folder: Path, file: RemoteFile) -> bool:
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size


def _not_found(source: Source, root: Path | None, reason: str) -> str:
    looked = ", ".join(str(folder) for folder in folders(source, root) if folder.is_dir()) or "no folder that exists"
    files = ", ".join(_file_names(source.idx) if source.idx else [file.name for file in source.files])
    return (
        f"{source.name} is not on this machine and cannot be had: {reason}; looked in {looked}; put its files "
        f"({files}) into a folder called {source.name} and give the folder that holds it as --data-root (root=), or "
        "set SWITCHGRAD_DATA to it"
    )


def _file_names(files: IdxFiles) -> list[str]:
    return [path.name for stem in (files.train, files.val) for path in _member_pair(stem)]
