"""Numbers as people read them, and the plain text of a summary."""

from __future__ import annotations

from collections.abc import Sequence


def human_bytes(count: int) -> str:
    """Bytes with a unit of 1024s.

    >>> human_bytes(512), human_bytes(4704 * 4), human_bytes(138_357_544 * 4)
    ('512 B', '18.4 KB', '527.8 MB')
    """
    if count < 1024:
        return f"{count} B"
    size, unit = count / 1024, "KB"
    for larger in ("MB", "GB", "TB"):
        if size < 1023.95:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


def by(sizes: Sequence[int]) -> str:
    """Sizes joined as in ``6x28x28``.

    >>> by((6, 28, 28))
    '6x28x28'
    """
    return "x".join(map(str, sizes))


def axes(values: Sequence[int] | None) -> str:
    """One number where all axes agree, ``-`` where nothing is known.

    >>> axes((5, 5)), axes((5, 1)), axes(None)
    ('5', '5x1', '-')
    """
    if not values:
        return "-"
    return str(values[0]) if len(set(values)) == 1 else by(values)


def aligned(rows: Sequence[Sequence[str]], left: frozenset[int]) -> list[str]:
    """Rows of text in columns two spaces apart; columns in ``left`` start together, the others end together.

    >>> aligned([("layer", "n"), ("c1", "156")], left=frozenset({0}))
    ['layer    n', 'c1     156']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
