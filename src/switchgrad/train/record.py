"""``metrics.csv``: one line an epoch, added as the epoch ends."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from switchgrad.errors import RunError
from switchgrad.train.atomic import write_text
from switchgrad.train.position import Row

COLUMNS = tuple(spec.name for spec in dataclasses.fields(Row))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the header and all ``rows``, atomically: what a run does as it begins or resumes.

    The checkpoint is the authority on which epochs are done, so that a run killed between its checkpoint and this
    file neither loses a line nor writes one twice.
    """
    write_text(path, ",".join(COLUMNS) + "\n" + "".join(_line(row) for row in rows))


def append_row(path: Path, row: Row) -> None:
    """Add one line in a single write, and bring it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, _line(row).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_rows(path: Path) -> list[Row]:
    """The rows of a ``metrics.csv``, every number as it was; a last line without its line feed is not yet one.

    `RunError` where the file is missing, has other columns or holds something else than numbers.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    lines = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
    if not text.startswith(",".join(COLUMNS) + "\n"):
        raise RunError(f"{path} is not the record of a run: its columns should be {', '.join(COLUMNS)}")
    try:
        return [_row(line) for line in lines]
    except (TypeError, ValueError) as error:
        raise RunError(f"{path} holds a line that is not one of numbers: {error}") from error


def _line(row: Row) -> str:
    return ",".join(repr(value) for value in dataclasses.astuple(row)) + "\n"


def _row(line: dict[str, Any]) -> Row:
    return Row(epoch=int(line["epoch"]), **{name: float(line[name]) for name in COLUMNS[1:]})
