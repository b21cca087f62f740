"""The copies of a node: whether they have a body, which of them are alike, and which are drawn as columns."""

from __future__ import annotations

from dsvgraph.dims import Size
from dsvgraph.graph import Copies, Graph, Mode, Model, Node

MANY_GROUPS = 3  # kinds of copies drawn in a row; more are folded by kind


def chains(model: Model) -> list[Node]:
    """Return repeated lines whose copies' outputs a loss scores one by one."""
    scored = {model.outputs[loss.output] for loss in model.losses if loss.output and loss.depths != (0,)}
    found = [model.nodes[ref.node] for ref in scored if ref.node in model.nodes]
    repeated = [n for n in found if n.mode is Mode.REPEAT and n.copies and n not in _read_by_others(model)]
    return [n for n in model.nodes.values() if n in repeated]


def _read_by_others(model: Model) -> list[Node]:
    return [model.nodes[name] for name in model.net.nodes if name in model.nodes and model.net.out_degree(name)]


def has_body(node: Node) -> bool:
    """Return whether there is something to open: copies of a single op have no body."""
    return any(len(copies.graph.nodes) > 1 for copies in node.copies)


def kinds(node: Node) -> tuple[Copies, ...]:
    """Return the groups of equal copies of a node; where there are many, one for each kind of copy."""
    if len(node.copies) <= MANY_GROUPS:
        return node.copies
    found: dict[Graph, Size] = {}
    for copies in node.copies:
        found[copies.graph] = found.get(copies.graph, 0) + copies.count
    return tuple(Copies(graph, count) for graph, count in found.items())


def groups_of(node: Node, graph: Graph) -> tuple[int, ...]:
    """Return the numbers of the groups that have the body ``graph``."""
    return tuple(i for i, copies in enumerate(node.copies) if copies.graph is graph)


def copies_of(node: Node, graph: Graph) -> Size:
    """Return how many copies of a node have the body ``graph``."""
    return sum((copies.count for copies in node.copies if copies.graph is graph), start=0)
