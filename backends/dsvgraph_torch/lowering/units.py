"""Every distinct block of a model becomes one class, or one for each way in which it decodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dsvgraph.build.decoding.state import Decoder, Decoding
from dsvgraph.graph import Graph, Loss, LossKind, Model, Node
from dsvgraph.passes.graph.decoding import decoding, looks_ahead
from dsvgraph.passes.graph.instances import fills
from dsvgraph_torch.lowering.analysis import chunked_linears
from dsvgraph_torch.lowering.names import class_names, document, reserved
from dsvgraph_torch.lowering.sharing import ClassSource, Construction, construction, suffix


@dataclass
class Class:
    """What the writer knows of a class while it is written; ``kept`` are the names of what decoding keeps."""

    source: ClassSource
    kept: set[str] = field(default_factory=set)
    containers: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)  # addresses at or below which several lines have weights
    taken: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class ClassKey:
    """What a class is written for: a graph, alone or as ``copies`` side by side, ``whole`` or as a part of them."""

    graph: Graph
    copies: int
    decoding: Decoding
    whole: bool = True


class Lowering:
    """Writes the classes of a model, callees first."""

    def __init__(self, model: Model, write: WriteClass, full: bool = True) -> None:
        self.model, self.write, self.full = model, write, full
        self.names = class_names(model)
        self.chunked = chunked_linears(model)
        self.decoder = Decoder.of_model(model)
        self.ahead = looks_ahead(model)
        self.blank: dict[Graph, Decoding] = {}
        self.given: set[str] = set()
        self.kept: dict[Decoding, set[str]] = {}
        self.filled = bool(fills(model))
        self.shared = any(n.reused for g in model.graphs() for n in g.nodes.values())
        self.balanced = any(loss.kind is LossKind.SEQUENCE_BALANCE for loss in model.losses)
        self.skippable: dict[str, tuple[Loss, ...]] = {}
        self.classes: list[ClassSource] = []
        self.units: dict[ClassKey, int] = {}

    def root(self) -> Decoding:
        """Return how the whole decodes its first output: not at all if that looks ahead."""
        return Decoding(self.model) if self.ahead else decoding(self.model, self.decoder)

    def inside(self, found: Decoding, node: Node) -> tuple[Decoding, ...]:
        """Return how the copies of a line decode."""
        if self.ahead:
            return tuple(self.blank.setdefault(copies.graph, Decoding(copies.graph)) for copies in node.copies)
        return found.inner.get(node.name) or tuple(self.decoder.of(copies.graph) for copies in node.copies)

    def unit(self, found: Decoding, copies: int = 0, whole: bool = True) -> Construction:
        """Return what stands for the construction of a block's class, which is written on first use."""
        graph, key = found.graph, ClassKey(found.graph, copies, found, whole)
        if key not in self.units:
            base, name = "" if whole else "nn.Module", self.name(graph, copies, whole)
            source = ClassSource(name, graph.name, copies, graph.args, doc=document(graph), base=base)
            out = Class(source, taken=reserved())
            self.write(self, out, found, copies)
            self.kept[found] = out.kept
            self.units[key] = len(self.classes)
            self.classes.append(source)
        return construction(self.units[key])

    def name(self, graph: Graph, copies: int, whole: bool) -> str:
        """Return the name of a class: that of copies side by side tells them from a single one, and a number tells
        classes of one graph apart of which some are given earlier rows that others keep.
        """
        base = self.names[graph] + (suffix(copies, whole) if copies else "")
        name, number = base, 2
        while name in self.given or (copies and name in self.names.values()):
            name, number = f"{base}{number}", number + 1
        self.given.add(name)
        return name


WriteClass = Callable[[Lowering, Class, Decoding, int], None]
"""Writes the lines of a class: of a graph as it decodes, for as many copies side by side (0: one alone)."""
