"""Insets: which blocks are drawn beside the model, and where their inputs come from and their outputs go, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from dsvgraph.dims import Poly, Size
from dsvgraph.graph import Graph, Mode, Node
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.copies import copies_of
from dsvgraph_graphviz.model.find import Found, places
from dsvgraph_graphviz.text.titles import called

RESIDUAL = "to residual sum"


def most_repeated(shown: Mapping[Graph, str], skip: Collection[Node]) -> list[Found]:
    """Return the first of the equal layers that there are most of, if there are more than one and they have a body."""
    layers = [found for found in _blocks(shown, skip) if found.node.mode is Mode.REPEAT]
    many = [(rank, found) for found in layers if (rank := _rank(copies_of(found.node, found.body))) > 1]
    return [max(many, key=lambda pair: pair[0])[1]] if many else []


def distinct(
    shown: Mapping[Graph, str], skip: Collection[Node], levels: int, differs: Callable[[Graph], bool] = lambda _: False
) -> list[Found]:
    """Return the blocks within ``levels`` of what is shown, nearest first; blocks that differ in sizes only are one.

    ``shown`` are bodies with their paths; a block that ``differs`` is another one than one that does not.
    """
    kinds, found = Kinds(), dict[Any, Found]()
    inner = dict(shown)
    for _ in range(levels):
        new: dict[Any, Found] = {}
        for block in _blocks(inner, skip):
            new.setdefault((kinds.of(block.body), differs(block.body)), block)
        new = {key: block for key, block in new.items() if key not in found}
        found |= new
        inner = {block.body: block.path for block in new.values()}
        if not inner:
            break
    return list(found.values())


def _blocks(shown: Mapping[Graph, str], skip: Collection[Node]) -> Iterator[Found]:
    for graph, path in shown.items():
        for found in places(graph, path, below=1):
            if found.copies and found.node not in skip and len(found.copies.graph.nodes) > 1:
                yield found


def _rank(count: Size) -> float:
    return float("inf") if isinstance(count, Poly) else count


class Kinds:
    """Numbers blocks so that those which differ in sizes only have one number."""

    def __init__(self) -> None:
        self._of: dict[Graph, int] = {}
        self._numbers: dict[tuple[Any, ...], int] = {}

    def of(self, graph: Graph) -> int:
        """Return the number of what ``graph`` is: its lines, wires, and attributes that are no numbers."""
        if graph not in self._of:
            lines = tuple(self._line(node) for node in graph.nodes.values())
            self._of[graph] = self._numbers.setdefault((graph.name, lines), len(self._numbers))
        return self._of[graph]

    def _line(self, node: Node) -> tuple[Any, ...]:
        wires = tuple(f"{port} {ref}" for port, ref in node.sources.items())
        below = tuple(dict.fromkeys(self.of(copies.graph) for copies in node.copies))
        return node.name, node.callee, wires, _attributes(node), below


def _attributes(node: Node) -> str:
    found = node.op.model_dump() if node.op else {}
    return str({k: v for k, v in found.items() if isinstance(v, (bool, str)) or v is None})


# -- around a block -----------------------------------------------------------------------------


def origin(analysis: Analysis, graph: Graph, node: Node, port: str) -> str:
    """Return where an input of ``node`` comes from, in words."""
    if port in node.carried:
        return "from previous block"
    ref = node.sources.get(port)
    source = graph.nodes.get(ref.node) if ref else None
    if source is None or ref is None:
        return ""
    if ref.port in source.weights:
        return f"{ref.port} of {source.name}"
    return f"after {called(source, analysis)}" if source.op else f"from {called(source, analysis)}"


def destination(analysis: Analysis, graph: Graph, node: Node, port: str) -> str:
    """Return where an output of ``node`` goes to, in words."""
    if port in node.carried:
        return "to next block"
    edges = graph.net.out_edges(node.name, data=True)
    readers = [graph.nodes[r] for _, r, e in edges if e["src"] == port]
    if not readers:
        named = [name for name, ref in graph.outputs.items() if ref == (node.name, port)]
        return f"to {named[0]}" if named else "unused"
    if readers[0].op and readers[0].op.drawn.sign == "+":
        return RESIDUAL if _goes_around(graph, node, readers[0]) else "to a sum"
    return f"to {called(readers[0], analysis)}"


def _goes_around(graph: Graph, node: Node, sum_: Node) -> bool:
    """Return whether the sum takes in something that ``node`` depends on."""
    others = {ref.node for ref in sum_.inputs.values()} - {node.name}
    return any(_above(graph, node.name, other) for other in others)


def _above(graph: Graph, name: str, other: str) -> bool:
    reached, seen = [name], {name}
    while reached:
        before = set(graph.net.predecessors(reached.pop())) - seen
        if other in before:
            return True
        seen |= before
        reached += [n for n in before if n in graph.net]
    return False
