"""The outline of a file: sections, blocks, lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dsvgraph.errors import Span
from dsvgraph.loader import Doc
from dsvgraph_lsp.scope import mapping


@dataclass(frozen=True)
class Symbol:
    """A key with what it holds; it reaches to line ``last``, which counts from 1."""

    name: str
    detail: str
    kind: str  # section, block, node, value
    span: Span
    last: int
    children: tuple[Symbol, ...] = ()


def symbols(doc: Doc) -> list[Symbol]:
    """The keys of a file, nested as they are: only what stands there as text of its own."""
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
        inner = tuple(_below(doc, here, end)) if _opens(here) else ()
        end = max([end, *(child.last for child in inner)])
        yield Symbol(key, _detail(mapping(data)[key], here), _kind(here), span, max(end, span.line), inner)


def _opens(path: tuple[Any, ...]) -> bool:
    """Whether the parts of what stands here are symbols too."""
    if path[0] == "graph":
        return len(path) == 1 or (len(path) == 2 and path[1] in ("body", "in"))
    if path[0] == "blocks":
        return len(path) <= 2 or (len(path) == 3 and path[2] in ("body", "args", "in"))
    return len(path) == 1 and path[0] in ("config", "loss", "init", "trained")


def _kind(path: tuple[Any, ...]) -> str:
    if path[0] == "blocks" and len(path) == 2:
        return "block"
    if "body" in path[1:-1]:
        return "node"
    return "section" if len(path) == 1 or path[-1] in ("args", "in", "body", "out", "cache", "doc") else "value"


def _detail(value: Any, path: tuple[Any, ...]) -> str:
    if _kind(path) == "node" and isinstance(value, dict):
        return str(next(iter(value), ""))
    return "" if isinstance(value, (dict, list)) or value is None else str(value)[:60]
