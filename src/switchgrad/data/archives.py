"""Members of .tar.gz and .zip files, read without unpacking anything to disk, every size bounded."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from switchgrad.errors import DataError

_MOST_BYTES = 1 << 30  # of a whole archive, unpacked; CIFAR's largest is 184 MB
_LARGEST_MEMBER = 1 << 28
_MOST_MEMBERS = 10_000

# What the standard library raises on archives that are damaged in one way or another.
_DAMAGE = (OSError, EOFError, ValueError, OverflowError, struct.error, zlib.error)
_TAR_DAMAGE = (tarfile.TarError, *_DAMAGE)
_ZIP_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, *_DAMAGE)


class _Bounded:
    """A gzip stream that refuses to unpack more than `_MOST_BYTES`."""

    def __init__(self, stream: gzip.GzipFile, name: str) -> None:
        self._stream = stream
        self._name = name
        self._left = _MOST_BYTES

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._name} unpacks to more than {_MOST_BYTES >> 20} MiB; get the official archive")
        return data


def tar_members(path: Path, names: set[str]) -> dict[str, bytes]:
    """The contents of the members ``names`` (paths inside the archive) of a .tar.gz file; absent ones are left out.

    Nothing is written to disk, and the archive's checksum is verified to its end. Raises `DataError` for a damaged
    archive, for a member whose path leads out of it, for a wanted member that is no plain file, and for sizes
    beyond reason.
    """
    try:
        with gzip.open(path) as unpacked:
            stream = _Bounded(unpacked, str(path))
            with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
                found = _wanted(archive, names, path)
            while stream.read(1 << 20):
                pass
            return found
    except DataError:
        raise
    except _TAR_DAMAGE as error:
        raise DataError(f"{path} is damaged: {error}; get the archive again") from error


def _wanted(archive: tarfile.TarFile, names: set[str], path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for count, member in enumerate(archive):
        if count >= _MOST_MEMBERS:
            raise DataError(f"{path} has more than {_MOST_MEMBERS:,} members; get the official archive")
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise DataError(f"{path} holds {member.name!r}, a path that leads out of it; get the official archive")
        if str(name) not in names:
            continue
        content = archive.extractfile(member) if member.isreg() else None
        if content is None or member.size > _LARGEST_MEMBER:
            raise DataError(f"{path} holds {member.name!r} as a link or beyond all size; get the official archive")
        found[str(name)] = content.read()
    return found


def zip_member(path: Path, name: str) -> bytes:
    """The content of the member called ``name``, in whatever folder of the zip file it lies.

    Raises `DataError` for a damaged archive, for sizes beyond reason, and where there is no such member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = next((m for m in archive.infolist() if PurePosixPath(m.filename).name == name), None)
            if member is None:
                raise DataError(f"{path} holds no {name}; get the official archive")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{path} packs {name} in an unusual way; get the official archive")
            with archive.open(member) as stream:
                content = stream.read(_LARGEST_MEMBER + 1)
    except DataError:
        raise
    except _ZIP_DAMAGE as error:
        raise DataError(f"{path} is damaged: {error}; get the archive again") from error
    if len(content) > _LARGEST_MEMBER:
        raise DataError(f"{path} holds a {name} of more than {_LARGEST_MEMBER >> 20} MiB; get the official archive")
    return content
