"""Graphviz's HTML-like labels: tables, rows, cells, words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape, unescape

from dsvgraph.errors import printable
from dsvgraph_graphviz import theme


def words(
    text: str, color: str, size: float = theme.BODY, bold: bool = False, italic: bool = False, face: str = ""
) -> str:
    """``text`` in one colour and size; whatever stands in it is text, never markup."""
    if not text:
        return ""  # graphviz takes no empty <font>
    inner = escape(printable(text), quote=False)
    inner = f"<i>{inner}</i>" if italic else inner
    inner = f"<b>{inner}</b>" if bold else inner
    other = f' face="{face}"' if face else ""
    return f'<font color="{color}" point-size="{size:g}"{other}>{inner}</font>'


def tag(name: str, content: str = "", **attributes: object) -> str:
    """One element; attributes that are None are left out, `_` is written `-`."""
    shown = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items() if v is not None)
    return f"<{name}{shown}>{content}</{name}>"


def cell(content: str, **attributes: object) -> str:
    """One cell of a row."""
    return tag("td", content, **attributes)


def table(rows: Iterable[str], **attributes: object) -> str:
    """A table of rows that are already cells."""
    return tag("table", "".join(tag("tr", row) for row in rows), **attributes)


def box(rows: Iterable[str], hue: theme.Hue, **attributes: object) -> str:
    """A card: a rounded table in a hue."""
    wanted = {"border": 1, "style": "rounded", "cellborder": 0, "cellpadding": 3, "cellspacing": 1}
    return table(rows, **{**wanted, "color": hue.border, "bgcolor": hue.fill, **attributes})


def plain(content: str) -> str:
    """The words of a label without its tags."""
    return unescape(re.sub(r"<[^>]*>", "", content))


def label(content: str) -> str:
    """``content`` as an HTML-like label."""
    return f"<{content}>"
