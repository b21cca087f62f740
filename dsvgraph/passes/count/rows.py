"""The cost of a model block by block: one row for all equal copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, Model, Node, join
from dsvgraph.ops.tape import Key
from dsvgraph.passes.count.gradients import Costs, below
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.count.tally import Meter, Tally
from dsvgraph.passes.graph.needs import Needs, Ports
from dsvgraph.passes.graph.paths import copy_paths


@dataclass(frozen=True)
class Row:
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


def rows(
    model: Model, meter: Meter, costs: Costs, twin: Graph | None = None, other: Meter | None = None
) -> Iterator[Row]:
    """The rows of ``model``; ``costs`` are of its backward pass.

    ``twin`` is the same model over config names, counted by ``other``.
    """
    root = _Place(model, twin, "", 0, 1, 1, frozenset([next(iter(model.outputs))]), ())
    yield from _Rows(meter, other, below(costs), meter.of(model).forward).inside(root)


class _Place(NamedTuple):
    """A graph on the way down: where it stands, how often it runs, in how many sets of weights,
    which outputs inference needs of it."""

    graph: Graph
    twin: Graph | None
    path: str
    depth: int
    copies: int
    stored: int
    outputs: Ports | None
    key: Key


class _Rows(NamedTuple):
    meter: Meter
    other: Meter | None
    costs: Costs
    forward: Size

    def inside(self, place: _Place) -> Iterator[Row]:
        """Rows of the lines of a graph: of its blocks, and on the first page of what costs anything."""
        needs = self.meter.depends.of(place.graph, place.outputs or ())
        for node in place.graph.nodes.values():
            twin = place.twin.nodes.get(node.name) if place.twin else None
            if node.op and not place.depth:
                yield from self._op(place, node, twin, needs)
            yield from self._copies(place, node, twin, needs)

    def _op(self, place: _Place, node: Node, twin: Node | None, needs: Needs) -> Iterator[Row]:
        tally = self.meter.node(place.graph, node, self.meter.depends.whole(place.graph), True)
        if not (tally.parameters or tally.flops):
            return
        formula = total(w.numel for w in twin.weights.values()) if twin else None
        inner = place._replace(path=join(place.path, node.at), key=(*place.key, (node.name, 0)))
        yield self._row(inner, node, node.callee, tally, node.name in needs.ports, formula)

    def _copies(self, place: _Place, node: Node, twin: Node | None, needs: Needs) -> Iterator[Row]:
        twins = twin.copies if twin and len(twin.copies) == len(node.copies) else ()
        same = {group.graph: other.graph for group, other in zip(node.copies, twins, strict=False)}
        kept = _united(node, needs)
        for i, (graph, (path, count)) in enumerate(copy_paths(node, join(place.path, node.at)).items()):
            copies = place.copies * int(count)  # type: ignore[arg-type]
            key = (*place.key, (node.name, i))
            stored = place.stored if node.reused else place.stored * int(count)  # type: ignore[arg-type]
            found = _Place(graph, same.get(graph), path, place.depth, copies, stored, kept.get(graph), key)
            formula = self.other.of(same[graph]).parameters if graph in same and self.other else None
            yield self._row(found, node, graph.name, self.meter.of(graph), bool(found.outputs), formula)
            yield from self.inside(found._replace(depth=place.depth + 1))

    def _row(self, place: _Place, node: Node, block: str, one: Tally, kept: bool, formula: Size | None) -> Row:
        every, values = one.times(place.copies, place.stored), self.meter.values
        flops, whole = number(every.forward, values), number(self.forward, values)
        return Row(
            place.path, node.name, block, place.depth, place.copies, kept,
            int(number(every.parameters, values)), number(every.active, values),
            flops, number(self.costs.get(place.key, 0), values),
            flops / whole if whole else 0.0, None if formula is None else str(formula), place.key,
        )  # fmt: skip


def _united(node: Node, needs: Needs) -> dict[Graph, Ports]:
    """What inference needs of each distinct graph of a node, in any of its copies."""
    found: dict[Graph, Ports] = {}
    for copies, outputs in zip(node.copies, needs.copies.get(node.name, ()), strict=False):
        found[copies.graph] = found.get(copies.graph, frozenset()) | outputs
    return found
