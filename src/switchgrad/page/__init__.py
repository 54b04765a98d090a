"""Pages that need nothing beside themselves: the frame, the house's style, and the few pieces that all of them use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

__all__ = ["document", "facts", "section", "table"]

_BASE = Path(__file__).with_name("base.css")


def document(title: str, style: str, sections: Sequence[str]) -> str:
    """A whole page: ``title`` as plain text, ``style`` after the house's own sheet, ``sections`` as HTML.

    >>> page = document("a < b", "", ["<p>body</p>"])
    >>> "<title>a &lt; b</title>" in page, "http" in page
    (True, False)
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_BASE.read_text(encoding='utf-8')}{style}</style>\n"
        "</head>\n<body>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """A section under a heading; both are HTML."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def facts(pairs: Mapping[str, str]) -> str:
    """Names and values as cards in a row; both are plain text.

    >>> facts({"loss": "< 1"})
    '<dl class="facts"><div><dt>loss</dt><dd>&lt; 1</dd></div></dl>'
    """
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs.items())
    return f'<dl class="facts">{cells}</dl>'


def table(head: Sequence[str], body: str, caption: str) -> str:
    """A table that scrolls where it is wider than the page; all arguments are HTML, ``body`` its rows."""
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    return (
        f'<div class="scroll"><table><caption>{caption}</caption><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
