"""Weights by path: copies stay folded, and are cut only where a pattern names a number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from typing import NamedTuple

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, join, walk
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


def last_match(sections: Iterable[tuple[str, object]], path: str) -> object:
    """The value of the last pattern that fits ``path``, or None."""
    found = None
    for pattern, value in sections:
        if matches(pattern, path):
            found = value
    return found
