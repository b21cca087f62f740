"""The cost of a model block by block: one row for all equal copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, Model, Node, join
from dsvgraph.graph.dependencies import Dependencies, Ports
from dsvgraph.ops.tape import Key
from dsvgraph.passes.count.gradients import Costs, below
from dsvgraph.passes.count.graph_counts import GraphCounter, GraphCounts
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.graph.paths import copy_paths


@dataclass(frozen=True)
class BlockCost:
    """All copies of one block (or one line of the whole graph); rows with more ``depth`` are inside.

    ``formula`` is the parameters of one copy in config names. ``active`` are weights times the
    share of tokens that meet them, ``flops`` forward, for the whole batch.
    """

    path: str
    line: str
    block: str
    depth: int
    copies: int
    inference: bool  # whether the first output depends on it
    parameters: int
    active: float
    flops: float
    backward: float  # FLOPs of the backward pass
    share: float  # of the model's forward FLOPs
    formula: str | None
    key: Key = field(default=(), repr=False, compare=False)  # its place in the graph


def block_costs(
    model: Model,
    counter: GraphCounter,
    costs: Costs,
    generic: Graph | None = None,
    generic_counter: GraphCounter | None = None,
) -> Iterator[BlockCost]:
    """Yield the costs of the blocks of ``model``; ``costs`` are of its backward pass.

    ``generic`` is the same model over config names, counted by ``generic_counter``.
    """
    root = _Frame(
        graph=model,
        generic=generic,
        path="",
        depth=0,
        copies=1,
        stored=1,
        outputs=frozenset([next(iter(model.outputs))]),
        key=(),
    )
    yield from _BlockCosts(counter, generic_counter, below(costs), counter.of(model).forward).inside(root)


class _Frame(NamedTuple):
    """A graph in the walk: its path, how often it runs, its sets of weights, and the outputs that inference needs."""

    graph: Graph
    generic: Graph | None
    path: str
    depth: int
    copies: int
    stored: int
    outputs: Ports | None
    key: Key


class _BlockCosts(NamedTuple):
    counter: GraphCounter
    generic_counter: GraphCounter | None
    costs: Costs
    forward: Size

    def inside(self, frame: _Frame) -> Iterator[BlockCost]:
        """Yield rows of the lines of a graph: of its blocks, and on the first page of what costs anything."""
        needed = self.counter.dependencies.of(frame.graph, frame.outputs or ())
        for node in frame.graph.nodes.values():
            generic = frame.generic.nodes.get(node.name) if frame.generic else None
            if node.op and not frame.depth:
                yield from self._op(frame, node, generic, needed)
            yield from self._copies(frame, node, generic, needed)

    def _op(self, frame: _Frame, node: Node, generic: Node | None, needed: Dependencies) -> Iterator[BlockCost]:
        counts = self.counter.node(frame.graph, node, self.counter.dependencies.whole(frame.graph), True)
        if not (counts.parameters or counts.flops):
            return
        formula = total(w.numel for w in generic.weights.values()) if generic else None
        inner = frame._replace(path=join(frame.path, node.at), key=(*frame.key, (node.name, 0)))
        yield self._block_cost(inner, node, node.callee, counts, node.name in needed.ports, formula)

    def _copies(self, frame: _Frame, node: Node, generic: Node | None, needed: Dependencies) -> Iterator[BlockCost]:
        generic_copies = generic.copies if generic and len(generic.copies) == len(node.copies) else ()
        same = {group.graph: other.graph for group, other in zip(node.copies, generic_copies, strict=False)}
        inference = needed.outputs_by_graph(node)
        for i, (graph, (path, count)) in enumerate(copy_paths(node, join(frame.path, node.at)).items()):
            copies = frame.copies * int(count)  # type: ignore[arg-type]
            key = (*frame.key, (node.name, i))
            stored = frame.stored if node.reused else frame.stored * int(count)  # type: ignore[arg-type]
            found = _Frame(
                graph=graph,
                generic=same.get(graph),
                path=path,
                depth=frame.depth,
                copies=copies,
                stored=stored,
                outputs=inference[graph],
                key=key,
            )
            formula = (
                self.generic_counter.of(same[graph]).parameters if graph in same and self.generic_counter else None
            )
            yield self._block_cost(found, node, graph.name, self.counter.of(graph), bool(found.outputs), formula)
            yield from self.inside(found._replace(depth=frame.depth + 1))

    def _block_cost(
        self, frame: _Frame, node: Node, block: str, one: GraphCounts, inference: bool, formula: Size | None
    ) -> BlockCost:
        every, values = one.times(frame.copies, frame.stored), self.counter.values
        flops, whole = number(every.forward, values), number(self.forward, values)
        return BlockCost(
            path=frame.path,
            line=node.name,
            block=block,
            depth=frame.depth,
            copies=frame.copies,
            inference=inference,
            parameters=int(number(every.parameters, values)),
            active=number(every.active, values),
            flops=flops,
            backward=number(self.costs.get(frame.key, 0), values),
            share=flops / whole if whole else 0.0,
            formula=None if formula is None else str(formula),
            key=frame.key,
        )
