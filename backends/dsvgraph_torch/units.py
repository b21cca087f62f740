"""Lowering: every distinct block of a graph becomes one class, or one for each way in which it decodes."""

from __future__ import annotations

from dataclasses import dataclass

from dsvgraph.build.decoding import Decoder, Decoding
from dsvgraph.graph import Graph, Model, Node
from dsvgraph.passes.decoding import decoding, looks_ahead
from dsvgraph_torch.deferred import deferred_heads
from dsvgraph_torch.lower import Class, Writer
from dsvgraph_torch.names import class_names, document, reserved
from dsvgraph_torch.sharing import Made, Source, made


@dataclass(frozen=True)
class Unit:
    """One class to write: a graph, alone or as ``copies`` side by side."""

    graph: Graph
    copies: int
    decoding: Decoding


class Lowering:
    """Writes the classes of a model, callees first."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.names = class_names(model)
        self.deferred = deferred_heads(model)
        self.decoder = Decoder.of_model(model)
        self.ahead = looks_ahead(model)
        self.blank: dict[Graph, Decoding] = {}
        self.given: set[str] = set()
        self.kept: dict[Decoding, set[str]] = {}
        self.turns = any(n.reused for g in model.graphs() for n in g.nodes.values())
        self.balanced = any(loss.kind == "sequence_balance" for loss in model.losses)
        self.classes: list[Source] = []
        self.units: dict[Unit, int] = {}

    def root(self) -> Decoding:
        """How the whole decodes its first output: not at all if that looks ahead."""
        return Decoding(self.model) if self.ahead else decoding(self.model, self.decoder)

    def inside(self, found: Decoding, node: Node) -> tuple[Decoding, ...]:
        """How the copies of a line decode."""
        if self.ahead:
            return tuple(self.blank.setdefault(run.graph, Decoding(run.graph)) for run in node.runs)
        return found.inner.get(node.name) or tuple(self.decoder.of(run.graph) for run in node.runs)

    def unit(self, found: Decoding, copies: int = 0) -> Made:
        """What stands for the construction of a block's class, which is written on first use."""
        graph, key = found.graph, Unit(found.graph, copies, found)
        if key not in self.units:
            source = Source(self.name(graph, copies), graph.name, copies, graph.args, doc=document(graph))
            out = Class(source, taken=reserved())
            Writer(self, out, found, copies).block()
            self.kept[found] = out.kept
            self.units[key] = len(self.classes)
            self.classes.append(source)
        return made(self.units[key])

    def name(self, graph: Graph, copies: int) -> str:
        """The name of a class; one graph has several if some are given earlier rows that others keep."""
        name, number = self.names[graph] + ("Each" if copies else ""), 2
        while name in self.given:
            name, number = f"{self.names[graph]}{number}", number + 1
        self.given.add(name)
        return name
