"""textDocument/documentSymbol: the outline of a file as sections, blocks and lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dsvgraph.errors import Span
from dsvgraph.loader import Doc
from dsvgraph.spec import WrittenLine
from dsvgraph_lsp.scope import mapping

SECTIONS = ("args", "in", "body", "out", "cache", "doc")  # of a block
MAX_DETAIL = 60  # characters


class SymbolKind(StrEnum):
    """What a key of a spec stands for."""

    SECTION = "section"
    BLOCK = "block"
    NODE = "node"
    VALUE = "value"


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A key with its children; it extends to line ``last``, which counts from 1."""

    name: str
    detail: str
    kind: SymbolKind
    span: Span
    last: int
    children: tuple[Symbol, ...] = ()


def symbols(doc: Doc) -> list[Symbol]:
    """Return the keys of a file, nested as they are; keys that come from an anchor or a merge are left out."""
    last = len(doc.source.lines)
    while last > 1 and not doc.source.line(last).strip():
        last -= 1
    return list(_below(doc, (), last))


def _below(doc: Doc, path: tuple[Any, ...], last: int) -> Iterator[Symbol]:
    data: Any = doc.data
    for step in path:
        data = mapping(data).get(step)
    keys = [(key, span) for key in mapping(data) if (span := doc.keys.get((*path, key)))]
    keys.sort(key=lambda found: (found[1].line, found[1].column))
    for i, (key, span) in enumerate(keys):
        end = max(span.line, keys[i + 1][1].line - 1) if i + 1 < len(keys) else last
        here = (*path, key)
        children = tuple(_below(doc, here, end)) if _has_children(here) else ()
        yield Symbol(
            name=key,
            detail=_detail(mapping(data)[key], here),
            kind=_kind(here),
            span=span,
            last=max([end, span.line, *(child.last for child in children)]),
            children=children,
        )


def _has_children(path: tuple[Any, ...]) -> bool:
    """Return whether the keys below a path are symbols too."""
    if path[0] == "graph":
        return len(path) == 1 or (len(path) == 2 and path[1] in ("body", "in"))
    if path[0] == "blocks":
        return len(path) <= 2 or (len(path) == 3 and path[2] in ("body", "args", "in"))
    return len(path) == 1 and path[0] in ("config", "loss", "init", "trained")


def _kind(path: tuple[Any, ...]) -> SymbolKind:
    if path[0] == "blocks" and len(path) == 2:
        return SymbolKind.BLOCK
    if "body" in path[1:-1]:
        return SymbolKind.NODE
    return SymbolKind.SECTION if len(path) == 1 or path[-1] in SECTIONS else SymbolKind.VALUE


def _detail(value: Any, path: tuple[Any, ...]) -> str:
    if _kind(path) is SymbolKind.NODE and isinstance(value, dict):
        return str(WrittenLine.of(value).callee)
    return "" if isinstance(value, (dict, list)) or value is None else str(value)[:MAX_DETAIL]
