"""Many picture files into one array: in threads, in order, with every failure kept instead of the first one raised."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from switchgrad.data import images
from switchgrad.data.dataset import Progress
from switchgrad.data.folder import Item
from switchgrad.errors import DataError

_MOST_THREADS = 16
_AT_ONCE = 256  # pictures between two reports of progress, and the most that an interrupt must wait for
_MEMORY_WHERE_UNKNOWN = 8 << 30
DEFAULT_SIDE = 64


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used: its path in the data set, its class, why, and what to do.

    >>> print(Problem("train/ants/1.jpg", "ants", "it is empty (0 bytes)", "get it again or remove it"))
    train/ants/1.jpg (class ants): it is empty (0 bytes); get it again or remove it
    """

    path: str
    class_name: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        of_class = f" (class {self.class_name})" if self.class_name else ""
        return f"{self.path}{of_class}: {self.reason}; {self.remedy}"


class BadFilesError(DataError):
    """All files of a data set that cannot be used, at once: see ``problems``."""

    def __init__(self, root: str, total: int, problems: Sequence[Problem]) -> None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            f"{len(problems)} of {total} pictures in {root} cannot be used:\n{lines}\n"
            'repair or remove them, or leave them out with bad_files="skip" (--bad-files skip)'
        )
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Outcome:
    """What reading one file gave: a `Problem`, or facts about a picture that is now in the array.

    ``digest`` is a hash of the file's content: equal files have equal digests.
    """

    item: Item
    problem: Problem | None
    grey: bool = False
    format: str = ""
    notes: tuple[str, ...] = ()
    digest: bytes = b""


def read_all(
    items: Sequence[Item], size: tuple[int, int], progress: Progress | None = None, what: str = "reading pictures"
) -> tuple[npt.NDArray[np.uint8], list[Outcome]]:
    """Every picture as uint8 ``[N, 3, H, W]`` (grey ones repeated), and what became of each file, in order.

    The row of a file with a problem is 0. Raises `DataError` where the pictures would take more than half of the
    machine's memory.
    """
    require_memory(len(items), size)
    pixels = np.zeros((len(items), 3, *size), np.uint8)
    outcomes: list[Outcome] = []

    def read_one(index: int) -> Outcome:
        return _read_one(items[index], size, pixels[index])

    with images.quiet(), ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for part in _parts(len(items)):
            outcomes += pool.map(read_one, part)
            if progress is not None:
                progress(len(outcomes), len(items), what)
    return pixels, outcomes


def _parts(count: int) -> Iterator[range]:
    return (range(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE))


def _read_one(item: Item, size: tuple[int, int], row: npt.NDArray[np.uint8]) -> Outcome:
    try:
        content = images.read_file(item.path)
        picture = images.decode(content, size)
    except images.UnreadableError as error:
        return Outcome(item, Problem(item.shown, item.class_name, error.reason, error.remedy))
    row[:] = picture.pixels
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Outcome(item, None, len(picture.pixels) == 1, picture.format, picture.notes, digest)


def require_memory(count: int, size: tuple[int, int], channels: int = 3) -> None:
    """Raise `DataError` where ``count`` pictures of this size would take more than half of the machine's memory."""
    needed = count * channels * size[0] * size[1]
    allowed = physical_memory() // 2
    if needed > allowed:
        side = max(int((allowed / (count * channels)) ** 0.5), 1)
        raise DataError(
            f"{count:,} pictures of {channels}x{size[0]}x{size[1]} take {needed / 2**30:.1f} GiB, more than half of "
            f"this machine's {2 * allowed / 2**30:.1f} GiB; give image_size={side} or less, or fewer pictures"
        )


def physical_memory() -> int:
    """Bytes of memory in this machine; 8 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return _MEMORY_WHERE_UNKNOWN


def working_size(items: Sequence[Item], image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """The size ``(H, W)`` that pictures of a folder are brought to.

    That is ``image_size`` where it is given (one number is a square). Else, where all pictures have one size and no
    side is longer than 64, that size, so that small pictures stay as they are; and 64 x 64 in every other case: big
    enough to tell most things apart, small enough to train on a processor (Tiny ImageNet's size).
    """
    if image_size is not None:
        return check_size(image_size)
    common: tuple[int, int] | None = None
    with images.quiet():
        for item in items:
            size = _size_or_none(item)
            if size is None:
                continue
            common = common or size
            if size != common or max(size) > DEFAULT_SIDE:
                return DEFAULT_SIDE, DEFAULT_SIDE
    return common or (DEFAULT_SIDE, DEFAULT_SIDE)


def _size_or_none(item: Item) -> tuple[int, int] | None:
    try:
        return images.header_size(item.path)
    except images.UnreadableError:
        return None  # reading the whole file will say why


def check_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """``(H, W)`` from the short form. Raises `DataError` unless each is an integer from 1 to 4096.

    >>> check_size(32), check_size((24, 48))
    ((32, 32), (24, 48))
    """
    sides = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 4096 for side in sides):
        raise DataError(f"image_size is {image_size!r}; give one integer or (height, width), each from 1 to 4096")
    return sides
