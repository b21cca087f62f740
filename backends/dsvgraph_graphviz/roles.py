"""What a node is in the picture: found from its op, weights, contents and place, never from names."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from dsvgraph.graph import Graph, Model, Node, Ref
from dsvgraph.ops.base import Kind


class Role(StrEnum):
    """The roles that have a hue."""

    TOKENS = "tokens"
    EMBEDDING = "embedding"
    HEAD = "head"
    POSITION = "position"
    ATTENTION = "attention"
    KEYS = "keys"
    DENSE = "dense"
    EXPERTS = "experts"
    MTP = "mtp"
    LOSS = "loss"
    NORM = "norm"
    PLAIN = "plain"


BY_KIND = {  # ops of other kinds have the role of the body that they stand in
    Kind.LOOKUP: Role.EMBEDDING,
    Kind.NORM: Role.NORM,
    Kind.POSITION: Role.POSITION,
    Kind.ATTENTION: Role.ATTENTION,
    Kind.ROUTING: Role.EXPERTS,
}


class Roles:
    """The roles in one model; what a graph contains is found once."""

    def __init__(self, model: Model) -> None:
        self._ops: dict[Graph, dict[str, Kind]] = {}
        self._heads = {id(node) for node in _ends(model)}

    def ops(self, graph: Graph) -> dict[str, Kind]:
        """The names of all ops in ``graph`` and below, with their kinds."""
        if graph not in self._ops:
            found = {n.callee: n.op.kind for n in graph.nodes.values() if n.op}
            for run in (run for n in graph.nodes.values() for run in n.runs):
                found.update(self.ops(run.graph))
            self._ops[graph] = found
        return self._ops[graph]

    def kinds(self, graph: Graph) -> frozenset[Kind]:
        """The kinds of all ops in ``graph`` and below."""
        return frozenset(self.ops(graph).values())

    def inside(self, node: Node) -> frozenset[Kind]:
        """The kinds of the ops that ``node`` is made of."""
        if node.op:
            return frozenset([node.op.kind])
        return frozenset().union(*(self.kinds(run.graph) for run in node.runs))

    def is_layer(self, node: Node) -> bool:
        """Whether ``node`` holds attention and a feed-forward network beside it."""
        return any(self.is_layer_body(run.graph) for run in node.runs)

    def is_layer_body(self, graph: Graph) -> bool:
        """Whether ``graph`` is the body of a layer."""
        parts = [self.inside(n) for n in graph.nodes.values() if n.runs]
        mixed = any(Kind.ATTENTION in part for part in parts)
        return mixed and any(Kind.LINEAR in part and Kind.ATTENTION not in part for part in parts)

    def of(self, node: Node, around: Role = Role.PLAIN) -> Role:
        """The role of ``node`` in a body whose own role is ``around``."""
        if id(node) in self._heads:
            return Role.HEAD
        if node.op:
            return BY_KIND.get(node.op.kind, around)
        return self.of_kinds(self.inside(node), self.is_layer(node), around)

    def of_graph(self, graph: Graph) -> Role:
        """The role of a whole block."""
        return self.of_kinds(self.kinds(graph), self.is_layer_body(graph))

    @staticmethod
    def of_kinds(kinds: frozenset[Kind], layer: bool, around: Role = Role.PLAIN) -> Role:
        """The role of a block made of ops of ``kinds``; a layer has that of its feed-forward network."""
        if Kind.ROUTING in kinds:
            return Role.EXPERTS
        if Kind.ATTENTION in kinds:
            return Role.DENSE if layer else Role.ATTENTION
        if {Kind.LINEAR, Kind.ACTIVATION} <= kinds:
            return Role.DENSE
        plain = Role.PLAIN if around == Role.EXPERTS else around  # without a router it holds no experts
        return BY_KIND.get(next(iter(kinds)), plain) if len(kinds) == 1 else plain


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


def _ends(model: Model) -> Iterator[Node]:
    """The products that give scores over a vocabulary: scored by a loss, or shaped like an embedding."""
    scored = {loss.output for loss in model.losses}
    tables = {
        w.shape for g in model.graphs() for n in g.nodes.values() if n.callee == "embedding" for w in n.weights.values()
    }
    for name, ref in model.outputs.items():
        for node in _producers(model, ref):
            if node.callee == "linear" and (name in scored or any(w.shape in tables for w in node.weights.values())):
                yield node


def _producers(graph: Graph, ref: Ref) -> Iterator[Node]:
    """The op that makes ``ref``, looked for inside blocks; one for each kind of copy."""
    node = graph.nodes.get(ref.node)
    if node is not None and node.op:
        yield node
    for run in node.runs if node is not None else ():
        if ref.port in run.graph.outputs:
            yield from _producers(run.graph, run.graph.outputs[ref.port])
