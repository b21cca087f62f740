"""The cost of a model block by block: one row for all equal copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Model, Node, join, span_text
from dsvgraph.passes.needs import Needs, Ports
from dsvgraph.passes.tally import Meter, Tally, number


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
    share: float  # of the model's forward FLOPs
    formula: str | None


def rows(model: Model, meter: Meter, twin: Graph | None = None, other: Meter | None = None) -> Iterator[Row]:
    """The rows of ``model``; ``twin`` is the same model over config names, for the formulas."""
    yield from _Rows(model, meter, other).inside(model, twin, "", 0, 1, frozenset([next(iter(model.outputs))]))


class _Rows:
    def __init__(self, model: Model, meter: Meter, other: Meter | None) -> None:
        self.meter, self.other = meter, other
        self.forward = meter.of(model).forward

    def inside(
        self, graph: Graph, twin: Graph | None, prefix: str, depth: int, copies: int, outputs: Ports | None
    ) -> Iterator[Row]:
        """Rows of the lines of ``graph``; ``outputs`` are those that inference needs, if any."""
        needs = self.meter.depends.of(graph, outputs or ())
        for node in graph.nodes.values():
            same = twin.nodes.get(node.name) if twin else None
            if node.op and (depth or not node.weights):
                continue
            if node.op:
                tally = self.meter.node(graph, node, self.meter.depends.whole(graph), True)
                formula = self._formula(same)
                yield self._row(join(prefix, node.at), node, node.callee, depth, copies, tally, node.name in needs.ports, formula)
            yield from self._runs(node, same, prefix, depth, copies, needs)

    def _runs(
        self, node: Node, twin: Node | None, prefix: str, depth: int, copies: int, needs: Needs
    ) -> Iterator[Row]:
        start = node.start
        path = join(prefix, node.at)
        kept = needs.runs.get(node.name, (None,) * len(node.runs))
        twins = twin.runs if twin and len(twin.runs) == len(node.runs) else [None] * len(node.runs)
        for run, same, outputs in zip(node.runs, twins, kept):
            inner = path if node.mode == "call" else join(path, span_text(start, run.count))
            number = copies * int(run.count)
            tally = self.meter.of(run.graph)
            formula = self.other.of(same.graph).parameters if same and self.other else None
            yield self._row(inner, node, run.graph.name, depth, number, tally, bool(outputs), formula)
            yield from self.inside(run.graph, same and same.graph, inner, depth + 1, number, outputs)
            start = start + run.count

    def _formula(self, twin: Node | None) -> Size | None:
        return sum((w.numel for w in twin.weights.values()), start=0) if twin else None

    def _row(
        self, path: str, node: Node, block: str, depth: int, copies: int, tally: Tally, kept: bool, formula: Any
    ) -> Row:
        flops = number(tally.forward * copies, self.meter.values)
        whole = number(self.forward, self.meter.values)
        return Row(
            path, node.name, block, depth, copies, kept, tally.parameters * copies,
            number(tally.active * copies, self.meter.values), flops, flops / whole if whole else 0.0,
            None if formula is None else str(formula),
        )  # fmt: skip
