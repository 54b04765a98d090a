"""A table of measurements: what it is about, its columns, and how a row of results fills them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_COPIES = 1.3  # of the bytes that have to move, on large maps


@dataclass(frozen=True)
class Table:
    """``heads`` names the columns as Markdown writes them, with bars between them; ``row`` makes a row's cells."""

    title: str
    heads: str
    row: Callable[[dict[str, Any]], list[str]]

    def markdown(self, result: dict[str, Any]) -> str:
        """The table of these results."""
        where = result["environment"]
        under = (
            f"{where['processor']}, {where['isa']}, {where['threads']} threads, PyTorch {where['versions']['torch']}; "
            "memory: default allocator, or kept by the process as training does."
        )
        lines = [f"| {self.heads} |", "|---|---|" + "--:|" * (self.heads.count(" | ") - 1)]
        lines += ["| " + " | ".join(self.row(row)) + " |" for row in result["rows"]]
        return f"{self.title}:\n\n" + "\n".join(lines) + f"\n\n{under}"


def ratio(got: float, wanted: float | None) -> str:
    text = f"{got:.1f}" if got >= 10 else f"{got:.2f}"
    if wanted is None:
        return text
    return f"{text} [{wanted:g}]" if got >= wanted else f"**{text}** [{wanted:g}]"


def copies(value: float | None) -> str:
    """How many times as long as a copy of the same bytes: memory is the limit, and somewhat more is allowed."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value <= MOST_COPIES else f"**{value:.2f}**"


def peer_ms(value: float | None, ours: float) -> str:
    """A peer's time, bold where it is faster."""
    return f"**{ms(value)}**" if value is not None and value < ours else ms(value)


def ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
