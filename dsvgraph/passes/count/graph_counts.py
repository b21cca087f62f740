"""What one graph owns and does, counted once per distinct graph and added up by copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from dsvgraph.dims import Size, evaluate, ratio, substitute, total
from dsvgraph.graph import Graph, Node, Use
from dsvgraph.graph.dependencies import Dependencies, DependencyAnalysis, Ports
from dsvgraph.ops.base import Op
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.options import member
from dsvgraph.types import AttentionPairs, Type, WeightKind

Flops = Mapping[str, Size]


@dataclass(frozen=True)
class GraphCounts:
    """Sums over a graph: weights in elements, forward FLOPs by op."""

    parameters: Size = 0
    untrained: Size = 0  # by the op: a selection bias has no gradient
    active: Size = 0  # weights times the share of tokens that meet them; tables whole
    embedding: Size = 0  # the part of `active` that is only looked up
    routers: Size = 0  # the part of `active` that chooses experts
    flops: Flops = field(default_factory=dict)

    def __add__(self, other: GraphCounts) -> GraphCounts:
        return GraphCounts(
            parameters=self.parameters + other.parameters,
            untrained=self.untrained + other.untrained,
            active=self.active + other.active,
            embedding=self.embedding + other.embedding,
            routers=self.routers + other.routers,
            flops=added(self.flops, other.flops),
        )

    def times(self, copies: Size, stored: Size | None = None) -> GraphCounts:
        """Return the sums of ``copies`` equal graphs, of which ``stored`` (or all) have weights of their own."""
        own = copies if stored is None else stored
        if copies == 1 and own == 1:
            return self
        sums = {f: getattr(self, f) * own for f in NUMBERS}
        return GraphCounts(**sums, flops={op: value * copies for op, value in self.flops.items()})

    def filled(self, values: Mapping[str, int]) -> GraphCounts:
        """Return the sums with some names replaced by numbers."""
        if not values:
            return self
        sums = {f: substitute(getattr(self, f), values) for f in NUMBERS}
        return GraphCounts(**sums, flops={op: substitute(value, values) for op, value in self.flops.items()})

    @property
    def forward(self) -> Size:
        """All forward FLOPs."""
        return total(self.flops.values())


NUMBERS = [f.name for f in fields(GraphCounts) if f.name != "flops"]


def added(a: Flops, b: Flops) -> Flops:
    """Return the sum by op."""
    if not a or not b:
        return a or b
    return {op: a.get(op, 0) + b.get(op, 0) for op in {**a, **b}}


class GraphCounter:
    """Counts graphs. ``tokens`` is the size B * T; ``values`` gives names their numbers.

    Weights are counted where they are owned, FLOPs where they are used.
    """

    def __init__(self, tokens: Size, values: Mapping[str, int], attention: str = AttentionPairs.CAUSAL) -> None:
        self.tokens, self.values = tokens, values
        self.attention = member(AttentionPairs, "attention", attention)
        self.dependencies = DependencyAnalysis()
        self.memo: dict[tuple[Graph, Ports | None], GraphCounts] = {}

    def of(self, graph: Graph, outputs: Ports | None = None) -> GraphCounts:
        """Return the sums over what ``outputs`` depend on, or over all of ``graph``."""
        key = (graph, outputs)
        if key not in self.memo:
            self.memo[key] = self._sum(graph, outputs)
        return self.memo[key]

    def needed(self, graph: Graph, outputs: Ports | None) -> Dependencies:
        """Return what the outputs depend on, or all of ``graph``."""
        return self.dependencies.whole(graph) if outputs is None else self.dependencies.of(graph, outputs)

    def _sum(self, graph: Graph, outputs: Ports | None) -> GraphCounts:
        needed = self.needed(graph, outputs)
        total = GraphCounts()
        for name, node in graph.nodes.items():
            if name in needed.ports:
                total = total + self.node(graph, node, needed, outputs is None)
        return total

    def node(self, graph: Graph, node: Node, needed: Dependencies, whole: bool) -> GraphCounts:
        """Return the sums of one node with all its copies."""
        if node.op:
            return self._op(graph, node, needed)
        copies: dict[tuple[Graph, Ports | None], Size] = {}
        for group, outputs in zip(node.copies, needed.copies[node.name], strict=True):
            key = (group.graph, None if whole else outputs)
            copies[key] = copies.get(key, 0) + group.count
        stored = 1 if node.reused else None
        return sum((self.of(*key).times(count, stored) for key, count in copies.items()), start=GraphCounts())

    def _op(self, graph: Graph, node: Node, needed: Dependencies) -> GraphCounts:
        assert node.op is not None
        owned = total(w.numel for w in node.weights.values())
        untrained = total(w.numel for w in node.weights.values() if not w.trained)
        table = self._looked_up(graph, node, needed)
        chooses = total(w.numel for w in node.weights.values() if w.kind is WeightKind.CHOICE)
        if not needed.computes(node):
            return GraphCounts(parameters=owned, untrained=untrained, active=owned, embedding=table, routers=chooses)
        flops = self.effective_op(node.op, node.input_types).flops(
            known_types(graph, node), node.outputs, self.attention
        )
        share = self.share(node)
        active = total(w.numel if w.kind is WeightKind.TABLE else w.numel * share for w in node.weights.values())
        return GraphCounts(
            parameters=owned,
            untrained=untrained,
            active=active,
            embedding=table,
            routers=chooses,
            flops={node.op.op: flops} if flops else {},
        )

    def effective_op(self, op: Op, ins: Mapping[str, Type]) -> Op:
        """Return the op without its attribute `window` where that is wider than the row."""
        window = dict(op).get("window")
        wide = window is not None and number(ins[op.ports[0]].shape[1] - window, self.values) < 0
        return op.model_copy(update={"window": None}) if wide else op

    def share(self, node: Node) -> Size:
        """Return the share of tokens that meet a node's weights, at most one.

        It is the number of its input's vectors over B * T: an expert's input is [B T K / E, d].
        """
        if not node.weights or node.op is None:
            return 1
        vectors = node.op.vectors(node.input_types)
        if vectors == self.tokens:
            return 1
        share = ratio(vectors, self.tokens)
        return share if evaluate(share, self.values) < 1 else 1

    def _looked_up(self, graph: Graph, node: Node, needed: Dependencies) -> Size:
        """Return elements of the node's tables that are looked up and never multiplied with."""
        tables = {name: w for name, w in node.weights.items() if w.kind is WeightKind.TABLE}
        return total(
            w.numel for name, w in tables.items() if self._uses(graph, node.name, name, needed) <= {WeightKind.TABLE}
        )

    def _uses(self, graph: Graph, source: str, port: str, needed: Dependencies) -> set[WeightKind]:
        """Return how the ops that read ``source.port`` (an input or a weight) use it, here and in blocks."""
        found: set[WeightKind] = set()
        for _, reader, dst in readers(graph, source, port):
            node = graph.nodes[reader]
            if node.op and needed.computes(node):
                wired = node.op.weights(known_types(graph, node))
                found.add(wired[dst].kind if dst in wired else WeightKind.PRODUCT)
            for copies, outputs in zip(node.copies, needed.copies.get(reader, ()), strict=False):
                inner = self.dependencies.of(copies.graph, outputs)
                found |= self._uses(copies.graph, dst, dst, inner)
        return found


def known_types(graph: Graph, node: Node) -> dict[str, Type]:
    """Return the types of the inputs of an op, and of the weights that are wired to it."""
    return {**node.input_types, **{port: graph.type(ref) for port, ref in node.tied.items()}}


def readers(graph: Graph, source: str, port: str) -> list[Use]:
    """Return where ``source.port`` is wired into."""
    return [use for use in graph.uses.get(source, ()) if use.port == port]
