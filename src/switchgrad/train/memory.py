"""Keep memory between the steps of a training run, instead of returning it to the system and faulting it in again."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Generator
from threading import Lock

# Numbers of mallopt(3) in glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4

# glibc moves its threshold for mapping up to 32 MiB by itself, and trims at twice that; setting any threshold switches
# that off, so these, the ends that it moves towards, are what we leave behind.
_AFTER = ((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 32 * 2**20), (_M_TRIM_THRESHOLD, 64 * 2**20))
_DURING = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))

_users = 0
_lock = Lock()


@contextlib.contextmanager
def keep_memory() -> Generator[bool]:
    """Within the block, freed memory stays with the process; at its end, what is free goes back to the system.

    By default glibc maps each large block afresh, and the kernel fills it page by page at first touch; a training
    step frees and asks for the same sizes again and again, so a fifth to a quarter of it can be page faults. Here
    ``mallopt`` switches mapping and trimming off for the duration. The value is True where that is in force: Linux with
    glibc; elsewhere the block just runs. Blocks may nest and overlap in threads: the last to end restores.

    >>> with keep_memory() as kept:
    ...     kept in (True, False)
    True
    """
    libc = _glibc()
    if libc is None:
        yield False
        return
    _enter(libc)
    try:
        yield True
    finally:
        _leave(libc)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if all(hasattr(libc, name) for name in ("mallopt", "malloc_trim", "gnu_get_libc_version")) else None


def _enter(libc: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            for parameter, value in _DURING:
                libc.mallopt(parameter, value)


def _leave(libc: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            for parameter, value in _AFTER:
                libc.mallopt(parameter, value)
            libc.malloc_trim(0)
