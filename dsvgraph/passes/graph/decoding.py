"""What decoding keeps of a model, element by element, and whether it can go step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dsvgraph.build.decoding.state import Decoder, Decoding
from dsvgraph.dims import Size, evaluate, product, total
from dsvgraph.graph import Graph, Model, Node, Ref
from dsvgraph.graph.dependencies import Dependencies, DependencyAnalysis
from dsvgraph.ops.decoding import Past


class CacheSize(NamedTuple):
    """Elements that decoding keeps of B rows of T positions: those that grow with T, and those that do not."""

    growing: Size = 0
    fixed: Size = 0

    def plus(self, other: CacheSize, times: Size = 1) -> CacheSize:
        return CacheSize(self.growing + other.growing * times, self.fixed + other.fixed * times)


def decoding(model: Model, decoder: Decoder, heads: bool = False) -> Decoding:
    """Return how ``model`` decodes its first output, or with its ``heads``, as drafting does."""
    first = next(iter(model.outputs))
    only = None if heads else frozenset(model.needed([first]) & model.nodes.keys())
    return decoder.of(model, only=only)


class CacheCounter:
    """Counts what is kept; ``values`` are numbers for the sizes."""

    def __init__(self, model: Model, values: Mapping[str, int]) -> None:
        self.model, self.values = model, values
        self.decoder = Decoder.of_model(model)
        self.memo: dict[Decoding, CacheSize] = {}

    def of_model(self, heads: bool = False) -> CacheSize:
        """Return what decoding keeps for the first output, or with all heads; nothing if it looks ahead."""
        if not heads and looks_ahead(self.model):
            return CacheSize()
        return self.of(decoding(self.model, self.decoder, heads))

    def of(self, found: Decoding) -> CacheSize:
        """Return what one graph keeps, with all below."""
        if found not in self.memo:
            kept = CacheSize()
            for name in sorted(found.keeping | found.inner.keys()):
                kept = kept.plus(self.of_line(found, name))
            self.memo[found] = kept
        return self.memo[found]

    def of_line(self, found: Decoding, name: str) -> CacheSize:
        """Return what is kept of one line, or one input, with all copies."""
        kept = CacheSize()
        for ref, rows in found.kept.items():
            if ref.node == name:
                kept = kept.plus(self.of_value(found.graph, ref, rows))
        states = total(state.type.numel for (node, _), state in found.states.items() if node == name)
        kept = kept.plus(CacheSize(0, states))
        groups = found.graph.nodes[name].copies if name in found.inner else ()
        for copies, inner in zip(groups, found.inner.get(name, ()), strict=True):
            kept = kept.plus(self.of(inner), copies.count)
        return kept

    def of_value(self, graph: Graph, ref: Ref, rows: Past) -> CacheSize:
        """Return what is kept of one value: all rows, or the last ones."""
        type_, length = graph.type(ref).own_tokens, self.decoder.length
        if rows.last is None or evaluate(length - rows.last, self.values) < 0:  # type: ignore[operator]
            return CacheSize(type_.numel)
        return CacheSize(0, product((type_.shape[0], rows.last, *type_.shape[2:])))


def looks_ahead(model: Model) -> Node | None:
    """Return the first line that reads later positions, of those that the first output needs; None if there is none."""
    dependencies = DependencyAnalysis()
    return _ahead(model, dependencies.of(model, [next(iter(model.outputs))]), dependencies)


def _ahead(graph: Graph, needed: Dependencies, dependencies: DependencyAnalysis) -> Node | None:
    for node in graph.nodes.values():
        if node.name not in needed.ports:
            continue
        if node.op and node.op.shift() > 0 and needed.computes(node):
            return node
        for copies, outputs in zip(node.copies, needed.copies[node.name], strict=True):
            found = _ahead(copies.graph, dependencies.of(copies.graph, outputs), dependencies)
            if found:
                return found
    return None
