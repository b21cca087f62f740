"""What decoding keeps of a model, element by element, and whether it can go step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dsvgraph.build.decoding.state import Decoder, Decoding
from dsvgraph.dims import Size, evaluate, product, total
from dsvgraph.graph import Graph, Model, Node, Ref
from dsvgraph.ops.decoding import Past
from dsvgraph.passes.graph.needs import Dependence, Needs


class Kept(NamedTuple):
    """Elements that decoding keeps of B rows of T positions: those that grow with T, and those that do not."""

    growing: Size = 0
    fixed: Size = 0

    def plus(self, other: Kept, times: Size = 1) -> Kept:
        return Kept(self.growing + other.growing * times, self.fixed + other.fixed * times)


def decoding(model: Model, decoder: Decoder, heads: bool = False) -> Decoding:
    """How ``model`` decodes its first output, or with its ``heads``, as drafting does."""
    first = next(iter(model.outputs))
    only = None if heads else frozenset(model.needed([first]) & model.nodes.keys())
    return decoder.of(model, only=only)


class Keeper:
    """Counts what is kept; ``values`` are numbers for the sizes."""

    def __init__(self, model: Model, values: Mapping[str, int]) -> None:
        self.model, self.values = model, values
        self.decoder = Decoder.of_model(model)
        self.memo: dict[Decoding, Kept] = {}

    def of_model(self, heads: bool = False) -> Kept:
        """What decoding the first output keeps, or with all heads; nothing where whole rows are computed each time."""
        if not heads and looks_ahead(self.model):
            return Kept()
        return self.of(decoding(self.model, self.decoder, heads))

    def of(self, found: Decoding) -> Kept:
        """What one graph keeps, with all below."""
        if found not in self.memo:
            kept = Kept()
            for name in sorted(found.keeping | found.inner.keys()):
                kept = kept.plus(self.of_line(found, name))
            self.memo[found] = kept
        return self.memo[found]

    def of_line(self, found: Decoding, name: str) -> Kept:
        """What is kept of one line, or one input, with all copies."""
        kept = Kept()
        for ref, rows in found.kept.items():
            if ref.node == name:
                kept = kept.plus(self.of_value(found.graph, ref, rows))
        states = total(state.type.numel for (node, _), state in found.states.items() if node == name)
        kept = kept.plus(Kept(0, states))
        groups = found.graph.nodes[name].copies if name in found.inner else ()
        for copies, inner in zip(groups, found.inner.get(name, ()), strict=True):
            kept = kept.plus(self.of(inner), copies.count)
        return kept

    def of_value(self, graph: Graph, ref: Ref, rows: Past) -> Kept:
        """What is kept of one value: all rows, or the last ones."""
        type_, length = graph.type(ref), self.decoder.length
        if rows.last is None or evaluate(length - rows.last, self.values) < 0:  # type: ignore[operator]
            return Kept(type_.numel)
        return Kept(0, product((type_.shape[0], rows.last, *type_.shape[2:])))


def looks_ahead(model: Model) -> Node | None:
    """The first line that the first output needs and that looks at later positions: they cannot be decoded in turn."""
    depends = Dependence()
    return _ahead(model, depends.of(model, [next(iter(model.outputs))]), depends)


def _ahead(graph: Graph, needs: Needs, depends: Dependence) -> Node | None:
    for node in graph.nodes.values():
        if node.name not in needs.ports:
            continue
        if node.op and node.op.shift() > 0 and needs.computes(node):
            return node
        for copies, outputs in zip(node.copies, needs.copies[node.name], strict=True):
            found = _ahead(copies.graph, depends.of(copies.graph, outputs), depends)
            if found:
                return found
    return None
