"""What the shape of a graph says of its code: what a class can extend, share, or leave to a loss."""

from __future__ import annotations

from collections import Counter

from dsvgraph.build.checks.modules import claims
from dsvgraph.graph import Graph, Mode, Model, Node, Ref
from dsvgraph.ops.interleaving import InterleaveTokens
from dsvgraph.ops.weighted import Linear


def base_block(graph: Graph) -> Node | None:
    """Return the one block at `.` that a class can extend: no address of the two may meet."""
    inner = [n for n in graph.nodes.values() if n.mode is Mode.CALL and not n.op and not n.at]
    if len(inner) != 1 or any(n.weights and not n.at for n in graph.nodes.values()):
        return None
    below = _first_steps(inner[0].copies[0].graph)
    own = [n.at.split(".")[0] for n in graph.nodes.values() if n is not inner[0] and (n.weights or n.copies)]
    return None if below is None or below & set(own) else inner[0]


def _first_steps(graph: Graph) -> set[str] | None:
    """Return first steps of the addresses that a graph fills; None where it fills its own."""
    filled = [n for n in graph.nodes.values() if n.weights or n.copies]
    return None if any(not n.at for n in filled) else {n.at.split(".")[0] for n in filled}


def shared(graph: Graph) -> set[str]:
    """Return addresses in the class of ``graph`` where, or below which, another line has weights too."""
    found = Counter(claim.at for claim in claims(graph))
    steps = {".".join(at.split(".")[:i]) for at in found for i in range(1, at.count(".") + 1)}
    return {at for at, count in found.items() if count > 1 or at in steps}


def inserted(graph: Graph) -> set[str]:
    """Return the lines that make nothing but tokens that are inserted into rows, which decoding leaves out."""
    ends = [ref for n in graph.nodes.values() if isinstance(n.op, InterleaveTokens) for ref in _inserted(n)]
    if not ends:
        return set()
    left, kept = [ref.node for ref in graph.outputs.values()], set[str]()
    while left:
        name = left.pop()
        if name in graph.nodes and name not in kept:
            kept.add(name)
            node = graph.nodes[name]
            gone = _inserted(node) if isinstance(node.op, InterleaveTokens) else []
            left += [ref.node for ref in node.sources.values() if ref not in gone]
    return (graph.behind(ends) & graph.nodes.keys()) - kept


def _inserted(node: Node) -> list[Ref]:
    return [node.inputs[port] for port in InterleaveTokens.may_be_empty if port in node.inputs]


def chunked_linears(model: Model) -> set[tuple[Graph, str]]:
    """Return the nodes, by graph and name, whose product a loss may take in chunks."""
    found: set[tuple[Graph, str]] = set()
    for loss in model.losses:
        for name in (loss.output, loss.against) if loss.kind.of_logits else ():
            found |= linears_behind(model, model, model.outputs[name]) if name else set()
    return found


def linears_behind(model: Model, graph: Graph, ref: Ref) -> set[tuple[Graph, str]]:
    """Return the linear maps behind ``ref``, followed into blocks, where nothing else reads them."""
    node = graph.nodes.get(ref.node)
    if node is None or ref.port not in node.outputs or _read(graph, ref):
        return set()
    if node.op:
        op = node.op
        plain = isinstance(op, Linear) and len(op.out) == 1 and op.contract == 1 and not op.bias
        return {(graph, node.name)} if plain else set()
    if node.mode is Mode.EACH or ref.port in node.carried or _used_elsewhere(model, node):
        return set()
    if node.mode is Mode.REPEAT and not isinstance(graph, Model):  # a block returns one stacked value
        return set()
    inner = [linears_behind(model, copies.graph, copies.graph.outputs[ref.port]) for copies in node.copies]
    return set().union(*inner) if all(inner) else set()


def _read(graph: Graph, ref: Ref) -> bool:
    """Return whether a node of the graph, or a second output, reads ``ref`` too."""
    consumers = sum(ref in n.sources.values() for n in graph.nodes.values())
    return consumers > 0 or list(graph.outputs.values()).count(ref) > 1


def _used_elsewhere(model: Model, node: Node) -> bool:
    """Return whether another line calls one of the node's graphs: it may want the logits themselves."""
    mine = {copies.graph for copies in node.copies}
    others = (n for g in model.graphs() for n in g.nodes.values() if n is not node)
    return any(copies.graph in mine for n in others for copies in n.copies)
