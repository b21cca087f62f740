"""What is known of the parts of a model: roles, parameters, FLOPs, activations, cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsvgraph.backends import View
from dsvgraph.build import build
from dsvgraph.dims import Size, names, ratio
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model, Node
from dsvgraph.graph.dependencies import Dependencies
from dsvgraph.ops.base import Kind
from dsvgraph.passes.count.cost import Cost, cost
from dsvgraph.passes.count.generic import integer_config
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.graph.decoding import CacheCounter
from dsvgraph.spec import with_settings
from dsvgraph_graphviz.model.cache import DecodingCache
from dsvgraph_graphviz.model.comparison import ComparedGraph
from dsvgraph_graphviz.model.find import Found
from dsvgraph_graphviz.model.roles import Roles

BATCH, LENGTH = 1, 4096  # shares of tokens do not depend on them


class Analysis:
    """Answers about the parts of one model; equal parts are counted once.

    Of two models in one graph, a part counts as it is in its own model.
    """

    def __init__(self, model: Model, comparison: ComparedGraph | None = None) -> None:
        self._comparison = comparison or ComparedGraph()
        self.model = model
        self.roles = Roles(model)
        self._kept: dict[Graph, float] = {}
        self._needs: dict[Graph, Dependencies] = {}
        rows = next((t for t in model.inputs.values() if t.rank > 1), None)
        self._values = _sizes(model)
        known = {**_numbers(model), **self._values}
        self.decoding_cache = DecodingCache(model, CacheCounter(model, known), self._comparison)
        self._counter = GraphCounter(rows.shape[0] * rows.shape[1] if rows else 1, known)

    def parameters(self, graph: Graph, node: Node | None = None) -> Size:
        """Parameters owned by ``graph``, or by one node of it with all its copies."""
        return self._tally(graph, node).parameters

    def active(self, graph: Graph, node: Node | None = None) -> Size:
        """Return the parameters among them that one token meets."""
        size = self._tally(graph, node).active
        return size if names(size) - self._values.keys() else round(number(size, self._values))

    def _tally(self, graph: Graph, node: Node | None) -> Any:
        if node is None:
            return self._counter.of(self._comparison.real.get(graph, graph))
        graph, node = self._comparison.nodes.get(id(node), (graph, node))
        if graph not in self._needs:
            self._needs[graph] = self._counter.dependencies.whole(graph)
        return self._counter.node(graph, node, self._needs[graph], True)

    def work(self, graph: Graph, node: Node | None = None) -> float | None:
        """Forward FLOPs per token of ``graph``, or of one node of it with all its copies; None without numbers."""
        found = ratio(self._tally(graph, node).forward, self._counter.tokens)
        return None if names(found) - self._values.keys() else float(number(found, self._values))

    def cache(self, graph: Graph, node: Node) -> float:
        """Return values that decoding keeps per token of one node with all its copies."""
        graph, node = self._comparison.nodes.get(id(node), (graph, node))
        return self.count(ratio(self.decoding_cache.count(graph, node.name), self._counter.tokens))

    def count(self, size: Size) -> float:
        """Return a size as a number; 0 where some name in it has none."""
        return 0.0 if names(size) - self._values.keys() else float(number(size, self._values))

    def kept(self, graph: Graph, node: Node) -> float:
        """Elements that the forward pass makes in one node with all its copies; views make none."""
        if node.op:
            return 0.0 if node.op.drawn.view else sum(self.count(t.numel) for t in node.outputs.values())
        return sum(self._made(copies.graph) * self.count(copies.count) for copies in node.copies)

    def _made(self, graph: Graph) -> float:
        if graph not in self._kept:
            self._kept[graph] = sum(self.kept(graph, node) for node in graph.nodes.values())
        return self._kept[graph]

    def cost(self) -> Cost | None:
        """Return the cost of the whole; None where some size has no number."""
        try:
            return cost(self.model, BATCH, LENGTH, formulas=False)
        except (DsvError, StopIteration, KeyError):
            return None

    def mixer(self, graph: Graph) -> str:
        """Return what the first op of ``graph`` is called that mixes positions."""
        return _label(graph, Kind.ATTENTION)

    def find(self, graph: Graph, op: str) -> tuple[Graph, Node] | None:
        """Return the first node with this op in ``graph`` or below, and the graph that it stands in."""
        for node in graph.nodes.values():
            if node.callee == op and node.op:
                return graph, node
        inner = (self.find(copies.graph, op) for n in graph.nodes.values() for copies in n.copies)
        return next((found for found in inner if found), None)


@dataclass
class Subject:
    """What a picture shows: a model, or two models as one graph, and what is known of its parts.

    ``first`` is the model itself; of two, the one that is compared with ``view.diff``. ``focus`` is the block or
    op that is drawn alone.
    """

    model: Model
    analysis: Analysis
    view: View
    first: Model
    comparison: ComparedGraph | None = None
    focus: Found | None = None


def _label(graph: Graph, kind: Kind) -> str:
    """Return the first op of a kind in ``graph`` or below, by its label; nothing where there is none."""
    for node in graph.nodes.values():
        if node.op and node.op.kind is kind:
            return node.op.label()
    return next(filter(None, (_label(copies.graph, kind) for n in graph.nodes.values() for copies in n.copies)), "")


def _sizes(model: Model) -> dict[str, int]:
    config = {n: v for n, v in model.config.items() if isinstance(v, int) and not isinstance(v, bool)}
    for type_ in model.inputs.values():
        for size, value in zip(type_.shape, (BATCH, LENGTH), strict=False):
            config |= dict.fromkeys(names(size), value)
    return config


def _numbers(model: Model) -> dict[str, int]:
    """Return the numbers of names that are left open: what shares of tokens are compared by."""
    if model.spec is None or not model.spec.symbolic:
        return {}
    return integer_config(build(with_settings(model.spec, {})))
