"""Keep memory between the steps of a training run, instead of returning it to the system and faulting it in again."""

from __future__ import annotations

import ctypes
import sys
from threading import Lock

# Numbers of mallopt(3) in glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4

# glibc moves its threshold for mapping up to 32 MiB by itself, and trims at twice that; setting any threshold switches
# that off, so these, the ends that it moves towards, are what we leave behind.
_AFTER = ((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 32 * 2**20), (_M_TRIM_THRESHOLD, 64 * 2**20))
_DURING = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))

_users = 0
_lock = Lock()


class KeptMemory:
    """What `keep_memory` gives: true where memory is kept, until `release` or the end of its ``with`` block."""

    def __init__(self, libc: ctypes.CDLL | None) -> None:
        self._libc = libc

    def release(self) -> None:
        """Give free memory back to the system, unless somebody else keeps it; a second call does nothing."""
        libc, self._libc = self._libc, None
        if libc is not None:
            _leave(libc)

    def __bool__(self) -> bool:
        return self._libc is not None

    def __enter__(self) -> KeptMemory:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def keep_memory() -> KeptMemory:
    """From now on, or within a ``with`` block, memory that tensors free stays with the process and is used again.

    By default glibc maps each large block afresh, and the kernel fills it page by page at first touch; a training
    step frees and asks for the same sizes again and again, so a fifth to a quarter of it can be page faults. Here
    ``mallopt`` switches mapping and trimming off. `switchgrad.train` does so by itself; call it once at the start of a
    loop of your own.

    It costs memory: the process stays as large as it was at its largest until the end of the block or `release`, and
    where sizes vary from step to step, freed blocks leave gaps that make it larger still. It acts on everything in the
    process that uses ``malloc``, and not on CUDA's memory, which PyTorch keeps anyway.

    The answer is true where that is in force: Linux with glibc; elsewhere nothing happens. Blocks may nest and overlap
    in threads: the last to end restores what glibc does by default, tuning by ``MALLOC_*`` variables excepted.

    >>> with keep_memory() as kept:
    ...     bool(kept) in (True, False)
    True
    >>> bool(kept)
    False
    """
    libc = _glibc()
    if libc is not None:
        _enter(libc)
    return KeptMemory(libc)


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
