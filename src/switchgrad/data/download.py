"""Downloads: checked against the official size and SHA-256, and in place only when whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from switchgrad.data.dataset import Progress
from switchgrad.data.sources import RemoteFile
from switchgrad.errors import DataError

_TIMEOUT_S = 30
_READ_BYTES = 1 << 18
_AGENT = {"User-Agent": "switchgrad"}
_SPARE_BYTES = 1 << 24
# What goes wrong between here and a server: no network, no such host, a refused or broken connection.
_NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)


class _FetchError(Exception):
    """Why one address did not give the file; `fetch` collects these."""


def fetch(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Download ``file`` into ``folder`` from the first of its addresses that gives it whole; returns its path.

    The bytes go to a temporary file beside the target, are counted and hashed on the way, and are renamed into place
    once size and SHA-256 are right; so an interrupted download leaves nothing behind that looks whole. Raises
    `DataError` with each address's reason when none gives the file, and when the disk has no room for it.
    """
    reasons: list[str] = []
    for url in file.urls:
        try:
            return _fetch_from(url, file, folder, progress)
        except _FetchError as error:
            reasons.append(f"{url}: {error}")
    raise DataError(f"cannot download {file.name} ({'; '.join(reasons)})")


def _fetch_from(url: str, file: RemoteFile, folder: Path, progress: Progress | None) -> Path:
    request = urllib.request.Request(url, headers=_AGENT)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            _make_room(file, folder)
            return _store(response, file, folder, progress)
    except DataError:
        raise
    except _NETWORK_ERRORS as error:
        raise _FetchError(_reason(error)) from error


def _make_room(file: RemoteFile, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}; set SWITCHGRAD_DATA to another folder") from error
    if free < file.size + _SPARE_BYTES:
        raise DataError(
            f"{folder} has {free >> 20} MiB free, but {file.name} needs {file.size >> 20} MiB; "
            "make room or set SWITCHGRAD_DATA to another folder"
        )


def _store(response: BinaryIO, file: RemoteFile, folder: Path, progress: Progress | None) -> Path:
    partial = folder / f".{file.name}.{secrets.token_hex(4)}.part"
    try:
        with partial.open("wb") as target:
            _receive(response, file, target, progress)
            target.flush()
            os.fsync(target.fileno())
        return partial.replace(folder / file.name)
    finally:
        partial.unlink(missing_ok=True)


def _receive(response: BinaryIO, file: RemoteFile, target: BinaryIO, progress: Progress | None) -> None:
    digest = hashlib.sha256()
    done = 0
    while chunk := response.read(_READ_BYTES):
        done += len(chunk)
        if done > file.size:
            raise _FetchError(f"sends more than the {file.size:,} bytes of the official file")
        digest.update(chunk)
        target.write(chunk)
        if progress is not None:
            progress(done, file.size, f"downloading {file.name}")
    if done != file.size:
        raise _FetchError(f"ended after {done:,} of {file.size:,} bytes")
    if digest.hexdigest() != file.sha256:
        raise _FetchError(f"sends another file: SHA-256 {digest.hexdigest()[:12]}... instead of {file.sha256[:12]}...")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
