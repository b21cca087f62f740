"""What every port has seen: horizons of ops, calls and copies."""

from __future__ import annotations

import math

from dsvgraph.graph import Copies, Graph, Node, PortRole, Ref
from dsvgraph.types import Horizon, Horizons, Type, piece_name


def of_op(graph: Graph, node: Node) -> None:
    """Set what the outputs of an op have seen: inputs joined, each moved as far as the op looks ahead there.

    A weight that is wired from what the model reads would show all of it to every position.
    """
    by = {p: node.op.looks(p, _lanes(node.input_types[p])) if node.op else 0 for p in node.inputs}
    tied = [graph.horizons_of(r).moved(math.inf) for r in node.tied.values()]
    seen = Horizons.join([*(graph.horizons_of(r).moved(by[p]) for p, r in node.inputs.items()), *tied])
    node.horizons = dict.fromkeys(node.outputs, seen)
    pieces = {p: found for p, r in node.inputs.items() if (found := slices(graph, r)) and _apart(node, p)}
    if len({len(found) for found in pieces.values()}) == 1:
        whole = [graph.horizons_of(r) for p, r in node.inputs.items() if p not in pieces]
        joined = [Horizons.join([*piece, *whole, *tied]) for piece in zip(*pieces.values(), strict=True)]
        if node.op and node.op.cumulative:
            joined = [Horizons.join(joined[: i + 1]) for i in range(len(joined))]
        node.copy_horizons = dict.fromkeys(node.outputs, joined)


def _lanes(type_: Type) -> int:
    """Return how many positions of a row are one token."""
    return type_.interleaving.count if type_.interleaving else 1


def _apart(node: Node, port: str) -> bool:
    """Return whether an op treats the pieces along its input's first axis one by one, or each with those before."""
    first = node.input_types[port].shape[:1]
    kept = all(t.shape[:1] == first for t in node.outputs.values())
    return kept and node.op is not None and (node.op.cumulative or node.op.keeps_first(port, node.input_types))


def of_call(graph: Graph, node: Node) -> None:
    """Set what the outputs of a called block have seen."""
    inner = node.copies[0].graph
    seen = {p: graph.horizons_of(r) for p, r in node.inputs.items()}
    seen |= {piece_name(p, i): piece for p, r in node.inputs.items() for i, piece in enumerate(slices(graph, r))}
    node.horizons = {o: inner.horizons[o].after(seen) for o in inner.outputs}
    pieces = {o: slices(inner, r) for o, r in inner.outputs.items()}
    node.copy_horizons = {o: [piece.after(seen) for piece in found] for o, found in pieces.items() if found}


MAX_PIECES = 256  # of a stack that is an input of a block, of which each is followed apart


def slices(graph: Graph, ref: Ref) -> list[Horizons]:
    """Return what each piece along the first axis of ``ref`` has seen, where that is known.

    The pieces of a stack that is an input of a block have seen themselves, under names of their own.
    """
    node = graph.nodes.get(ref.node)
    if node is None:
        count = graph.type(ref).shape[0] if graph.type(ref).rank > 2 else None
        few = isinstance(count, int) and count <= MAX_PIECES
        return [Horizons({piece_name(ref.node, i): Horizon()}) for i in range(count)] if few else []  # type: ignore[arg-type]
    if ref.port in node.carried:
        return []
    return node.copy_horizons.get(ref.port, [])


def of_copies(graph: Graph, node: Node) -> None:
    """Set what every output has seen after all copies, and each copy's for the stacked ones."""
    chain = _Chain(graph, node)
    for copies in node.copies:
        chain.follow(copies)
    node.copy_horizons = chain.found
    for o in node.outputs:
        carried = o in node.carried
        node.horizons[o] = chain.state[o] if carried else Horizons.join(chain.found[o])


class _Chain:
    """Follows what the carried ports have seen from copy to copy."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.state = {p: graph.horizons_of(r) for p, r in node.sources.items()}
        sliced = [p for p, role in node.roles.items() if role is PortRole.SLICED]
        self.pieces = {p: found for p in sliced if (found := slices(graph, node.sources[p]))}
        whole = [p for p, role in node.roles.items() if role is PortRole.SHARED and p in node.sources]
        for port in whole:
            parts = slices(graph, node.sources[port])
            self.state |= {piece_name(port, i): piece for i, piece in enumerate(parts)}
        self.carried = node.carried
        self.found: dict[str, list[Horizons]] = {o: [] for o in node.outputs}
        self.number = 0

    def follow(self, copies: Copies) -> None:
        """All copies of one run; two of them where their number is symbolic."""
        left = copies.count if isinstance(copies.count, int) else 2
        while left:
            times = self.step(copies.graph, left)
            left -= times
        if not isinstance(copies.count, int):
            self.forget(copies.graph)

    def step(self, inner: Graph, left: int) -> int:
        """Return one copy, or all that are left where nothing changes any more; how many it was."""
        self.state.update({p: f[self.number] for p, f in self.pieces.items() if self.number < len(f)})
        outs = {o: inner.horizons[o].after(self.state) for o in self.found}
        settled = not self.pieces and all(self.state[p] == outs[p] for p in self.carried)
        times = left if settled else 1
        for o, seen in outs.items():
            self.found[o] += [seen] * times
        self.state.update({p: outs[p] for p in self.carried})
        self.number += times
        return times

    def forget(self, inner: Graph) -> None:
        """After a symbolic number of copies: what still grows has seen everything."""
        outs = {p: inner.horizons[p].after(self.state) for p in self.carried}
        for p, seen in outs.items():
            if seen != self.state[p]:
                self.state[p] = Horizons({n: Horizon(math.inf, h.fill) for n, h in seen.by_input.items()})
