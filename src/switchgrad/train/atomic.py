"""Files that are either the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A path to write to; when the block ends without an error, it takes the place of ``path``.

    The temporary file lies in the same folder (a rename across file systems is a copy), its bytes reach the disk
    before the rename and the folder's entry after it. A crash leaves the old file, and perhaps a temporary one that
    `sweep` removes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "note.txt") as temporary:
    ...         _ = temporary.write_text("kept")
    ...     [p.name for p in Path(folder).iterdir()]
    ['note.txt']
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.touch()
    mode = temporary.stat().st_mode  # what the umask allows: safetensors would leave a file for its owner alone
    try:
        yield temporary
        temporary.chmod(mode)
        _sync(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with plain line feeds, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left in ``folder``."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk; Windows has no such call and needs none."""
    if os.name == "posix":
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
