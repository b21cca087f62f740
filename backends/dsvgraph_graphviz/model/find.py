"""Find what a path names: a node of a body, or one of its copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dsvgraph.errors import DsvError
from dsvgraph.graph import Copies, Graph, Mode, Model, Node, join
from dsvgraph.names import nearest

SPAN = re.compile(r"\[([^-\]]+)(?:-([^\]]+))?\]")


class Found(NamedTuple):
    """A line, or one copy of it: its folded path, the body it stands in, and the lines around that."""

    path: str
    graph: Graph
    node: Node
    copies: Copies | None
    around: tuple[Node, ...] = ()
    line: str = ""  # the names of the lines in place of their addresses

    @property
    def body(self) -> Graph:
        """What is inside: the copy's graph, or that of the first copies."""
        return (self.copies or self.node.copies[0]).graph


def find(model: Model, path: str, option: str) -> Found:
    """Return what ``path`` names. Raise DsvError with the nearest path.

    A number, `*` or a range as in `[3-60]` names a copy; a line's own name stands for its address.
    """
    asked = path.split(".")
    for found in places(model):
        if _fits(asked, found.path) or _fits(asked, found.line):
            return found
    known = dict.fromkeys(_spelled(found.path, asked) for found in places(model))
    raise DsvError(f"{option}: `{path}` is no path of `{model.name}`", hint=nearest(path, known) or _first(known))


def _spelled(path: str, asked: list[str]) -> str:
    """Return a folded path with the copies that were asked for, where it has them, else the first."""
    parts = path.split(".")
    wanted = [*asked, *[""] * len(parts)]
    pairs = zip(parts, wanted, strict=False)
    return ".".join(a if SPAN.fullmatch(p) and _same(a, p) else SPAN.sub(r"\1", p) for p, a in pairs)


def _first(known: dict[str, None]) -> str:
    return f"a path is such as `{max(list(known)[:50], key=len)}`"


def places(
    graph: Graph, prefix: str = "", line: str = "", around: tuple[Node, ...] = (), below: int = 1_000
) -> Iterator[Found]:
    """Yield every line below ``graph`` and every kind of copy, callers first, ``below`` levels deep."""
    for node in graph.nodes.values() if below > 0 else ():
        path, name = join(prefix, node.at), join(line, node.name)
        once = node.mode is Mode.CALL
        yield Found(path, graph, node, node.copies[0] if once and node.copies else None, around, name)
        for span, copies in node.numbered():
            inner, named = join(path, span), join(name, span)
            if not once:
                yield Found(inner, graph, node, copies, around, named)
            yield from places(copies.graph, inner, named, (*around, node), below - 1)


def _fits(asked: list[str], path: str) -> bool:
    parts = path.split(".")
    return len(parts) == len(asked) and all(map(_same, asked, parts))


def _same(asked: str, part: str) -> bool:
    """Return whether one segment is named: by itself, or as one of a range of copies."""
    if asked in (part, part.strip("[]")):
        return True
    span = SPAN.fullmatch(part)
    if not span:
        return False
    first, last = span[1], span[2] or span[1]
    within = asked.isdecimal() and first.isdecimal() and last.isdecimal() and int(first) <= int(asked) <= int(last)
    return asked == "*" or within
