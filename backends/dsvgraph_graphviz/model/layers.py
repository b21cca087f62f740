"""What layers are made of: attentions and feed-forward networks, as blocks or as lines of the body itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Node, Ref
from dsvgraph.ops.base import Kind
from dsvgraph.types import Type

BETWEEN = {Kind.ACTIVATION, Kind.ARITHMETIC, Kind.NORM, Kind.VIEW, Kind.JOIN}


class Network(NamedTuple):
    """A feed-forward network that a body has line by line: its last product, and the names of its other ops."""

    last: Node
    ops: frozenset[str]


def attentions(graph: Graph) -> list[Node]:
    """Return the lines of a body that are attention themselves, and no block that holds it."""
    return [node for node in graph.nodes.values() if node.op and node.op.kind == Kind.ATTENTION]


def networks(graph: Graph) -> list[Network]:
    """The feed-forward networks that a body has line by line: products, something pointwise that is not linear, and a
    product; but those that only make queries, or keys and values."""
    inside = set().union(*strands(graph))
    lines = (node for node in graph.nodes.values() if is_product(node) and node.name not in inside)
    return [Network(node, ops) for node in lines if (ops := _between(graph, node))]


def is_product(node: Node | None) -> bool:
    """Return whether a node is a matrix product with a weight."""
    return node is not None and node.op is not None and node.op.kind == Kind.LINEAR


def _between(graph: Graph, last: Node) -> frozenset[str]:
    """Return the ops between a product and those products that it takes its input from; none where it is no network.

    What also takes in an attention, as a gate does, is a part of that.
    """
    left, seen, names, hidden = [next(iter(last.inputs.values())).node], set[str](), set[str](), False
    while left:
        node = graph.nodes.get(name := left.pop())
        if name in seen or is_product(node):
            continue
        seen.add(name)
        if node is None or node.op is None or node.op.kind not in BETWEEN:
            return frozenset()
        hidden = hidden or node.op.kind == Kind.ACTIVATION
        names.add(node.callee)
        left += [ref.node for ref in node.inputs.values()]
    return frozenset(names) if hidden else frozenset()


def strands(graph: Graph) -> tuple[set[str], set[str]]:
    """The nodes that only queries of attentions in ``graph`` are made of, and those that only keys and values are."""
    queries: set[str] = set()
    keys: set[str] = set()
    for node in graph.nodes.values():
        if node.callee == "attention" and node.op:
            reached = {port: _above(graph, ref) for port, ref in node.inputs.items()}
            queries |= reached["q"] - reached["k"] - reached["v"]
            keys |= (reached["k"] | reached["v"]) - reached["q"]
    return queries, keys


def _above(graph: Graph, ref: Ref) -> set[str]:
    names, seen = [ref.node], set()
    while names:
        name = names.pop()
        if name in graph.nodes and name not in seen:
            seen.add(name)
            names += graph.net.predecessors(name)
    return seen


def outward(graph: Graph) -> list[str]:
    """Return the names of the products that an attention of ``graph`` gives its result to."""
    inline = attentions(graph)
    lines = (node for node in graph.nodes.values() if is_product(node))
    return [n.name for n in lines if any(ref.node == one.name for ref in n.inputs.values() for one in inline)]


def width(graph: Graph) -> Size | None:
    """Return the inner width of a feed-forward block: what its last product takes in."""
    for ref in graph.outputs.values():
        node = graph.nodes.get(ref.node)
        if node is not None and is_product(node) and "weight" in node.weights:
            return node.weights["weight"].shape[1]
    return None


def bottlenecks(graph: Graph, among: Collection[str] | None = None) -> list[Size]:
    """Return the widths of bottlenecks, ``among`` some nodes: products whose result only goes into other products."""
    found = []
    for node in graph.nodes.values():
        if is_product(node) and (among is None or node.name in among):
            parts = _into_linears(graph, node.name)
            found += [t.shape[-1] for t in parts]
    return found


def _into_linears(graph: Graph, name: str) -> list[Type]:
    """Return the values behind ``name``, past norms and splits, that a product takes in."""
    found: dict[tuple[str, str], Type] = {}
    left, seen = [name], {name}
    while left:
        name = left.pop()
        for _, reader, edge in graph.net.out_edges(name, data=True):
            node = graph.nodes[reader]
            if is_product(node) and edge["dst"] in node.inputs:
                found[name, edge["src"]] = edge["type"]
            elif node.op and node.op.kind in (Kind.NORM, Kind.VIEW) and reader not in seen:
                seen.add(reader)
                left.append(reader)
    return list(found.values())


def repeated(words: list[str]) -> Iterator[str]:
    """Yield words in a row, those that come again in the same order once.

    >>> list(repeated(["MHA", "FFN", "MHA", "FFN"])), list(repeated(["MHA", "FFN"]))
    (['2 × (MHA + FFN)'], ['MHA', 'FFN'])
    """
    for length in range(1, len(words) // 2 + 1):
        count, rest = divmod(len(words), length)
        if not rest and words == words[:length] * count:
            part = " + ".join(words[:length])
            yield f"{count} × ({part})" if " + " in part else f"{count} × {part}"
            return
    yield from words
