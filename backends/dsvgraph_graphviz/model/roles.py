"""What a node is in the picture: found from its op, weights, contents and place, never from names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, Mode, Model, Node, Ref
from dsvgraph.ops.base import Kind
from dsvgraph_graphviz.model.layers import attentions, is_product, networks, strands
from dsvgraph_graphviz.style.theme import Role

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
        self._layer: dict[Graph, bool] = {}
        self._heads = {id(node) for node in _ends(model)}

    def ops(self, graph: Graph) -> dict[str, Kind]:
        """Return the names of all ops in ``graph`` and below, with their kinds."""
        if graph not in self._ops:
            found = {n.callee: n.op.kind for n in graph.nodes.values() if n.op}
            for copies in (copies for n in graph.nodes.values() for copies in n.copies):
                found.update(self.ops(copies.graph))
            self._ops[graph] = found
        return self._ops[graph]

    def kinds(self, graph: Graph) -> frozenset[Kind]:
        """Return the kinds of all ops in ``graph`` and below."""
        return frozenset(self.ops(graph).values())

    def inside(self, node: Node) -> frozenset[Kind]:
        """Return the kinds of the ops that ``node`` is made of."""
        if node.op:
            return frozenset([node.op.kind])
        return frozenset().union(*(self.kinds(copies.graph) for copies in node.copies))

    def is_layer(self, node: Node) -> bool:
        """Return whether ``node`` holds attention and a feed-forward network beside it."""
        return any(self.is_layer_body(copies.graph) for copies in node.copies)

    def is_layer_body(self, graph: Graph) -> bool:
        """Return whether ``graph`` is the body of a layer, or of several layers that it has line by line."""
        if graph not in self._layer:
            self._layer[graph] = not self.holds_layers(graph) and self._is_layer_body(graph)
        return self._layer[graph]

    def _is_layer_body(self, graph: Graph) -> bool:
        blocks = {n.name: self.inside(n) for n in graph.nodes.values() if n.copies}
        beside = {name: part for name, part in blocks.items() if Kind.LINEAR in part and Kind.ATTENTION not in part}
        if any(Kind.ATTENTION in part for part in blocks.values()):
            return bool(beside or networks(graph))
        inline = set().union(*strands(graph))
        feeds = (self.of_kinds(part, False) for name, part in beside.items() if name not in inline)
        return bool(attentions(graph)) and (
            bool(networks(graph)) or any(r in (Role.DENSE, Role.EXPERTS) for r in feeds)
        )

    def holds_layers(self, graph: Graph) -> bool:
        """Return whether ``graph`` has lines that are layers, or hold layers."""
        return any(self.is_layered(node) for node in graph.nodes.values() if node.copies)

    def is_layered(self, node: Node) -> bool:
        """Return whether ``node`` is a layer or holds layers."""
        return any(self.is_layer_body(copies.graph) or self.holds_layers(copies.graph) for copies in node.copies)

    def layers(self, graph: Graph) -> Size:
        """How many layers ``graph`` has, those of all copies: an attention and a feed-forward network make one."""
        if not self.is_layer_body(graph):
            return self.layers_of(graph.nodes.values())
        roles = [(self.of(n), n.count if n.mode is Mode.REPEAT else 1) for n in graph.nodes.values() if n.copies]
        some = [total(count for role, count in roles if role == Role.ATTENTION) + len(attentions(graph))]
        some += [total(count for role, count in roles if role in (Role.DENSE, Role.EXPERTS)) + len(networks(graph))]
        return max(1, min(some)) if all(isinstance(count, int) for count in some) else some[0]  # type: ignore[type-var]

    def layers_of(self, nodes: Iterable[Node]) -> Size:
        """Return how many layers ``nodes`` have."""
        chained = (copies for node in nodes if node.mode is not Mode.EACH for copies in node.copies)
        return total(self.layers(copies.graph) * copies.count for copies in chained)

    def of(self, node: Node, around: Role = Role.PLAIN) -> Role:
        """Return the role of ``node`` in a body whose own role is ``around``."""
        if id(node) in self._heads:
            return Role.OUTPUT_LAYER
        if node.op:
            return BY_KIND.get(node.op.kind, around)
        return self.of_kinds(self.inside(node), self.is_layered(node), around)

    def sublayers(self, graph: Graph) -> Iterator[tuple[Node, Role]]:
        """Yield the blocks in the body of a layer that are attention or feed-forward networks, with their roles."""
        for node in graph.nodes.values():
            role = self.of(node)
            if node.copies and role in (Role.ATTENTION, Role.DENSE, Role.EXPERTS):
                yield node, role

    def of_graph(self, graph: Graph) -> Role:
        """Return the role of a whole block."""
        return self.of_kinds(self.kinds(graph), self.is_layer_body(graph) or self.holds_layers(graph))

    @staticmethod
    def of_kinds(kinds: frozenset[Kind], layer: bool, around: Role = Role.PLAIN) -> Role:
        """Return the role of a block made of ops of ``kinds``; a layer has that of its feed-forward network."""
        if Kind.ROUTING in kinds:
            return Role.EXPERTS
        if Kind.ATTENTION in kinds:
            return Role.DENSE if layer else Role.ATTENTION
        if {Kind.LINEAR, Kind.ACTIVATION} <= kinds:
            return Role.DENSE
        plain = Role.PLAIN if around == Role.EXPERTS else around  # without a router it holds no experts
        return BY_KIND.get(next(iter(kinds)), plain) if len(kinds) == 1 else plain


def _ends(model: Model) -> Iterator[Node]:
    """Yield the products that give scores over a vocabulary: scored by a loss, or shaped like an embedding."""
    scored = {loss.output for loss in model.losses}
    tables = {
        w.shape
        for g in model.graphs()
        for n in g.nodes.values()
        if n.op and n.op.kind is Kind.LOOKUP
        for w in n.weights.values()
    }
    for name, ref in model.outputs.items():
        for node in _producers(model, ref):
            if is_product(node) and (name in scored or any(w.shape in tables for w in node.weights.values())):
                yield node


def _producers(graph: Graph, ref: Ref) -> Iterator[Node]:
    """Yield the op that makes ``ref``, looked for inside blocks; one for each kind of copy."""
    node = graph.nodes.get(ref.node)
    if node is not None and node.op:
        yield node
    for copies in node.copies if node is not None else ():
        if ref.port in copies.graph.outputs:
            yield from _producers(copies.graph, copies.graph.outputs[ref.port])
