"""Text as the formats of pictures take it, and graphviz's HTML-like labels: tables, rows, cells, words.

Whatever a spec says enters a DOT by `in_label`, `in_attribute` or `as_id`, and an SVG by `in_xml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape, unescape

from dsvgraph.errors import printable
from dsvgraph_graphviz.style import theme

UNSAFE = re.compile(r"[^\w./*-]", re.ASCII)


def in_label(text: str) -> str:
    """``text`` within an HTML-like label; without `#`, so that it never looks like one of the picture's colours."""
    return escape(printable(text), quote=False).replace("#", "&#35;")


def in_attribute(text: str) -> str:
    """``text`` as the value of an attribute that is no HTML-like label; lines stay lines."""
    lines = (escape(printable(line)).replace("#", "&#35;") for line in text.split("\n"))
    return "&#10;".join(lines).replace("\\", "\\\\")


def in_xml(text: str) -> str:
    """``text`` within an element of XML, which knows no control characters, not even escaped; lines stay lines."""
    return "\n".join(escape(printable(line)) for line in text.split("\n"))


def as_id(text: str) -> str:
    """``text`` as a part of an identifier: other texts give other identifiers."""
    return UNSAFE.sub(lambda match: f"~{ord(match[0]):x}~", text)


def words(
    text: str, color: str, size: float = theme.BODY, bold: bool = False, italic: bool = False, face: str = ""
) -> str:
    """``text`` in one colour and size; whatever stands in it is text, never markup."""
    if not text:
        return ""  # graphviz takes no empty <font>
    other = f' face="{face}"' if face else ""
    font = f'<font color="{color}" point-size="{size:g}"{other}>'
    inner = in_label(text)
    inner = f"<i>{inner}</i>" if italic else inner
    inner = f"<b>{inner}</b>" if bold else inner
    return f"{font}{inner}</font>"


def literal(markup: str, letters: str = "GL") -> str:
    """Return an HTML-like label in which graphviz puts no name in place of a backslash and one of ``letters``.

    It does so in labels of graphs and frames for G and L, in those of nodes for N too.
    """
    return re.sub(rf"\\([{letters}])", r"\\<font>\1</font>", markup)


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return one element; attributes that are None are left out, `_` is written `-`."""
    shown = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items() if v is not None)
    return f"<{name}{shown}>{content}</{name}>"


def cell(content: str, **attributes: object) -> str:
    """Return one cell of a row."""
    return tag("td", content, **attributes)


def table(rows: Iterable[str], **attributes: object) -> str:
    """Return a table of rows that are already cells."""
    return tag("table", "".join(tag("tr", row) for row in rows), **attributes)


def box(rows: Iterable[str], hue: theme.Hue, **attributes: object) -> str:
    """Return a card: a rounded table in a hue."""
    wanted = {"border": 1, "style": "rounded", "cellborder": 0, "cellpadding": 3, "cellspacing": 1}
    return table(rows, **{**wanted, "color": hue.border, "bgcolor": hue.fill, **attributes})


def plain(content: str) -> str:
    """Return the words of a label without its tags."""
    return unescape(re.sub(r"<[^>]*>", "", content))


def label(content: str) -> str:
    """``content`` as an HTML-like label."""
    return f"<{content}>"
