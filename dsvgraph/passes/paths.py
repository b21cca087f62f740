"""Weights by path: copies stay folded, and are cut only where a pattern names a number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from typing import NamedTuple

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Node, join, span_text, walk
from dsvgraph.patterns import matches
from dsvgraph.types import Weight

SPAN = re.compile(r"\[(\d+)(?:-(\d+))?\]")


class Owned(NamedTuple):
    """A weight where it is owned, seen once for all its equal copies."""

    path: str
    weight: Weight
    copies: Size


def weights(graph: Graph) -> Iterator[Owned]:
    """Every owned weight; numbers of equal copies are written as a range."""
    for visit in walk(graph):
        for name, weight in visit.node.weights.items():
            yield Owned(join(visit.path, name), weight, visit.copies)


def cells(path: str, patterns: Iterable[str]) -> Iterator[tuple[str, int]]:
    """The paths that a folded path stands for, as few as ``patterns`` can tell apart, with counts.

    >>> list(cells("layers.[3-60].gate", ["layers.7.*"]))
    [('layers.7.gate', 1), ('layers.3.gate', 57)]
    """
    named = {int(n) for pattern in patterns for n in re.findall(r"\d+", pattern)}
    axes = [_axis(int(m[1]), int(m[2] or m[1]), named) for m in SPAN.finditer(path)]
    text = SPAN.sub("{}", path)
    for cell in product(*axes):
        yield text.format(*(number for number, _ in cell)), prod(count for _, count in cell)


def _axis(first: int, last: int, named: set[int]) -> list[tuple[int, int]]:
    """Numbers from ``first`` to ``last``: each named one alone, one other for the rest."""
    alone = sorted(n for n in named if first <= n <= last)
    others = (n for n in range(first, last + 1) if n not in named)
    rest = last - first + 1 - len(alone)
    return [(n, 1) for n in alone] + ([(next(others), rest)] if rest else [])


def run_paths(node: Node, path: str) -> dict[Graph, tuple[str, Size]]:
    """The distinct graphs of a node with the path of their copies below ``path``, and how often they run.

    Copies that are equal but not in a row are one: ``model.layers.[0-1,3-4]``.
    """
    spans: dict[Graph, list[str]] = {}
    counts: dict[Graph, Size] = {}
    start = node.start
    for run, stored in zip(node.runs, node.stored, strict=True):
        spans.setdefault(run.graph, []).append(span_text(start, stored.count)[1:-1])
        counts[run.graph] = counts.get(run.graph, 0) + run.count
        start = start + stored.count
    paths = {graph: path if node.mode == "call" else join(path, listed(s)) for graph, s in spans.items()}
    return {graph: (paths[graph], counts[graph]) for graph in spans}


def listed(spans: list[str]) -> str:
    """Numbers of copies in brackets; many are cut short."""
    return f"[{','.join(spans if len(spans) <= 6 else [*spans[:3], '...', spans[-1]])}]"


def last_match(sections: Iterable[tuple[str, object]], path: str) -> object:
    """The value of the last pattern that fits ``path``, or None."""
    found = None
    for pattern, value in sections:
        if matches(pattern, path):
            found = value
    return found
