"""Weights by path: copies stay folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Mode, Node, join, span_text, walk
from dsvgraph.patterns import fitting
from dsvgraph.types import Weight

T = TypeVar("T")
SPAN = re.compile(r"\[(\d+)(?:-(\d+))?\]")


class OwnedWeight(NamedTuple):
    """A weight where it is owned, seen once for all its equal copies."""

    path: str
    weight: Weight
    copies: Size


def weights(graph: Graph) -> Iterator[OwnedWeight]:
    """Yield every owned weight; numbers of equal copies are written as a range."""
    for visit in walk(graph):
        for name, weight in visit.node.weights.items():
            yield OwnedWeight(join(visit.path, name), weight, visit.copies)


def last_matches(path: str, sections: Sequence[tuple[str, T]]) -> Iterator[tuple[T | None, int]]:
    """Yield what the last pattern that fits says, for every kind of path that a folded path stands for, with counts.

    >>> list(last_matches("layers.[3-60].gate", [("**", True), ("layers.7.*", False)]))
    [(True, 57), (False, 1)]
    """
    for found, count in fitting([pattern for pattern, _ in sections], path):
        yield sections[found[-1]][1] if found else None, count


def copy_paths(node: Node, path: str) -> dict[Graph, tuple[str, Size]]:
    """Return the distinct graphs of a node with the path of their copies below ``path``, and how often they run.

    Copies that are equal but not in a row are one: ``model.layers.[0-1,3-4]``.
    """
    spans: dict[Graph, list[str]] = {}
    counts: dict[Graph, Size] = {}
    start = node.start
    for copies, stored in zip(node.copies, node.stored, strict=True):
        spans.setdefault(copies.graph, []).append(span_text(start, stored.count)[1:-1])
        counts[copies.graph] = counts.get(copies.graph, 0) + copies.count
        start = start + stored.count
    paths = {graph: path if node.mode is Mode.CALL else join(path, bracketed(s)) for graph, s in spans.items()}
    return {graph: (paths[graph], counts[graph]) for graph in spans}


def bracketed(spans: list[str]) -> str:
    """Return numbers of copies in brackets; many are cut short."""
    return f"[{','.join(spans if len(spans) <= 6 else [*spans[:3], '...', spans[-1]])}]"
