"""Which lines of two graphs are one, though they have other names, and which copies of two repeated lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from dsvgraph.graph import Graph, Node, Ref

MANY = 500  # copies that are still aligned by what they are

Key = Callable[[Graph, Node, Mapping[str, str]], Any]


def matched_lines(a: Graph, b: Graph) -> list[tuple[Node, Node]]:
    """Return the lines that match: by name, else by address, else by what they read or what reads them."""
    found = {name: name for name in a.nodes if name in b.nodes}
    _match(a, b, found, lambda graph, node, names: (node.at, node.callee))
    known = 0
    while len(found) > known:  # a chain of new names is found link by link
        known = len(found)
        for key in (_reading, _read):
            _match(a, b, found, key)
    return [(a.nodes[old], b.nodes[new]) for old, new in found.items()]


def _match(a: Graph, b: Graph, found: dict[str, str], key: Key) -> None:
    """Pair lines that are left and have one key; of several those whose insides are most alike."""
    taken = set(found.values())
    ours = [(node, key(a, node, found)) for node in a.nodes.values() if node.name not in found]
    theirs = [(node, key(b, node, {})) for node in b.nodes.values() if node.name not in taken] if ours else []
    same = [(old, new) for old, mine in ours for new, other in theirs if mine is not None and mine == other]
    for old, new in sorted(same, key=lambda pair: -_likeness(*pair)):
        if old.name not in found and new.name not in taken:
            found[old.name] = new.name
            taken.add(new.name)


def _likeness(old: Node, new: Node) -> int:
    """Return how many lines inside of both have one name."""
    if not (old.copies and new.copies):
        return 0
    ours, theirs = old.copies[0].graph.nodes, new.copies[0].graph.nodes
    return sum(1 + _likeness(ours[name], theirs[name]) for name in ours if name in theirs)


def _reading(graph: Graph, node: Node, names: Mapping[str, str]) -> Any:
    """Return what a line is, what it reads and how many axes it gives."""
    ranks = tuple(type_.rank for type_ in node.outputs.values())
    return node.callee, ranks, tuple((port, named(graph, ref, names)) for port, ref in node.sources.items())


def _read(graph: Graph, node: Node, names: Mapping[str, str]) -> Any:
    """Return what a line is, what it gives and what reads it; None if nothing does."""
    uses = graph.uses.get(node.name, ())
    readers = sorted((names.get(use.reader, use.reader), use.dst, use.port) for use in uses)
    given = tuple(str(type_) for type_ in node.outputs.values())
    return (node.callee, given, tuple(readers)) if readers else None


def named(graph: Graph, ref: Ref, names: Mapping[str, str]) -> str:
    """Return a reference as a line writes it, in the names of the other side."""
    node = graph.nodes.get(ref.node)
    name = names.get(ref.node, ref.node)
    return name if node is None or ref.port == node.first else f"{name}.{ref.port}"


class CopyRange(NamedTuple):
    """Copies in a row that are the same on a side: their place and graph there, or None where it has none."""

    old: int | None
    new: int | None
    copies: int
    graphs: tuple[Graph | None, Graph | None]


def aligned_copies(old: Node, new: Node) -> Iterator[CopyRange]:
    """Yield the copies of two repeated lines, side by side: equal kinds beside each other, in order."""
    ours, theirs = ([graph for _, graph in node.copy_graphs()] for node in (old, new))
    last: CopyRange | None = None
    for i, j in _aligned(ours, theirs):
        graphs = (None if i is None else ours[i], None if j is None else theirs[j])
        if last and last.graphs == graphs:
            last = last._replace(copies=last.copies + 1)
            continue
        if last:
            yield last
        last = CopyRange(i, j, 1, graphs)
    if last:
        yield last


def _aligned(ours: list[Graph], theirs: list[Graph]) -> Iterator[tuple[int | None, int | None]]:
    """Places of copies; None on a side that lacks one. As many of both are beside each other as they stand."""
    memo: dict[Graph, int] = {}
    kinds, others = ([_kind(graph, memo) for graph in graphs] for graphs in (ours, theirs))
    for i, i_end, j, j_end in _changes(kinds, others):
        both = min(i_end - i, j_end - j)
        yield from ((i + n, j + n) for n in range(both))
        yield from ((n, None) for n in range(i + both, i_end))
        yield from ((None, n) for n in range(j + both, j_end))


def _changes(kinds: list[int], others: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Stretches of both, in order: the same at the beginning, what changes between, the same at the end."""
    less, longest = sorted((len(kinds), len(others)))
    if less == longest or longest > MANY or len({*kinds, *others}) < 2:
        yield 0, len(kinds), 0, len(others)
        return
    same = [a == b for a, b in zip(kinds, others, strict=False)]
    head = (*same, False).index(False)
    ends = [a == b for a, b in zip(reversed(kinds[head:]), reversed(others[head:]), strict=False)]
    tail = (*ends, False).index(False)
    inner = kinds[head : len(kinds) - tail], others[head : len(others) - tail]
    yield 0, head, 0, head
    for _, i, i_end, j, j_end in SequenceMatcher(None, *inner, autojunk=False).get_opcodes():
        yield head + i, head + i_end, head + j, head + j_end
    yield len(kinds) - tail, len(kinds), len(others) - tail, len(others)


def _kind(graph: Graph, memo: dict[Graph, int]) -> int:
    """Return what a block is made of, whatever its sizes."""
    if graph not in memo:
        memo[graph] = hash(tuple(
            (node.name, node.callee, _set(node), tuple(_kind(copies.graph, memo) for copies in node.copies[:1]))
            for node in graph.nodes.values()
        ))  # fmt: skip
    return memo[graph]


def _set(node: Node) -> tuple[str, ...]:
    """Return the attributes that have a value."""
    return tuple(name for name, value in node.op.model_dump().items() if value) if node.op else ()
