"""What differs between equal copies: second names of shared weights, fill at the end of a row."""

from __future__ import annotations

from collections.abc import Iterator

from dsvgraph.graph import Graph, Model, Node, Ref, join
from dsvgraph.types import Horizon, Horizons

Names = dict[str, str]
CopyIndex = tuple[int, ...]


def aliases(model: Model) -> dict[str, str]:
    """Second name -> owner of every weight that is wired instead of owned."""
    return dict(_aliases(model, "", {}))


def _aliases(graph: Graph, prefix: str, env: Names) -> Iterator[tuple[str, str]]:
    for node in graph.nodes.values():
        path = join(prefix, node.at)
        for weight, ref in node.tied.items():
            owner = _owner(graph, prefix, ref, env)
            if owner:
                yield join(path, weight), owner
        inner = {p: o for p, r in node.sources.items() if (o := _owner(graph, prefix, r, env))}
        if inner and not node.op:
            for number, copy in node.copy_graphs():
                yield from _aliases(copy, join(prefix, node.segment(number)), inner)


def _owner(graph: Graph, prefix: str, ref: Ref, env: Names) -> str | None:
    """Return the path of the weight that ``ref`` names, if it names one."""
    if ref.node in graph.inputs:
        return env.get(ref.node)
    node = graph.nodes[ref.node]
    return join(prefix, node.at, ref.port) if ref.port in node.weights else None


def fills(model: Model) -> dict[str, int | dict[CopyIndex, int]]:
    """Return the path of each router whose rows end in fill -> how many positions.

    Where copies anywhere in the model use one set of weights it is a mapping from the copy index: which
    use of which such copies it is.
    """
    home = {name: Horizons({name: Horizon()}) for name in model.inputs}
    found: dict[str, dict[CopyIndex, int]] = {}
    for path, index, fill in _fills(model, "", home, ()):
        found.setdefault(path, {})[index] = fill
    reused = any(n.reused for g in model.graphs() for n in g.nodes.values())
    return {path: dict(by_turn) if reused else by_turn[()] for path, by_turn in found.items() if any(by_turn.values())}


def _fills(
    graph: Graph, prefix: str, env: dict[str, Horizons], index: CopyIndex
) -> Iterator[tuple[str, CopyIndex, int]]:
    for node in graph.nodes.values():
        path = join(prefix, node.at)
        seen = {p: graph.horizons_of(r).after(env) for p, r in node.inputs.items()}
        if node.callee == "router":
            places = node.input_types["x"].interleaving
            yield path, index, seen["x"].fill * (places.count if places else 1)
        elif not node.op and _routes(node):
            yield from _copies(node, prefix, seen, index)


def _routes(node: Node) -> bool:
    return any(n.callee == "router" or _routes(n) for copies in node.copies for n in copies.graph.nodes.values())


def _copies(
    node: Node, prefix: str, seen: dict[str, Horizons], index: CopyIndex
) -> Iterator[tuple[str, CopyIndex, int]]:
    for i, (number, copy) in enumerate(node.copy_graphs()):
        inner = join(prefix, node.segment(number))
        yield from _fills(copy, inner, seen, (*index, i) if node.reused else index)
        for port in node.carried:
            seen = {**seen, port: copy.horizons[port].after(seen)}
