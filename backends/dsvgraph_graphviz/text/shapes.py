"""The shapes on lines: in numbers, in the names of the config, or none."""

from __future__ import annotations

import re

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Model, Node, Ref
from dsvgraph.passes.count.generic import generic_model
from dsvgraph.types import Type

MODES = ("numbers", "symbolic", "off")


class Shapes:
    """Writes the shapes of one model; symbolic ones are those of its twin with names in place of numbers."""

    def __init__(self, model: Model, mode: str) -> None:
        self.mode = mode
        self._twins: dict[Graph, Graph] = {}
        if mode == "symbolic" and (twin := generic_model(model)):
            self._pair(model, twin)

    def _pair(self, graph: Graph, twin: Graph) -> None:
        if graph in self._twins:
            return
        self._twins[graph] = twin
        for name, node in graph.nodes.items():
            others = twin.nodes[name].copies if name in twin.nodes else ()
            for i, copies in enumerate(node.copies if others else ()):
                self._pair(copies.graph, others[min(i, len(others) - 1)].graph)

    def of(self, graph: Graph, ref: Ref) -> str:
        """Return the shape of a value: B,T,7168 or B,T,hidden_size."""
        return self._text(self._twins.get(graph, graph).type(ref))

    def scores(self, graph: Graph, node: Node) -> str:
        """Return the shape of attention's weights: B,128,T,T."""
        ins = self._twins.get(graph, graph).nodes[node.name].input_types
        q, k = ins["q"], ins["k"]
        return self._text(Type((q.shape[0], q.shape[2], q.shape[1], k.shape[1])))

    def _text(self, type_: Type) -> str:
        return "" if self.mode == "off" else shape(type_)


TIMES = re.compile(r"(\d+)\*([A-Za-z]\w*)\Z")  # 3*T, which pictures call 3T


def shape(type_: Type) -> str:
    """Return the shape on an edge: B,T,7168."""
    return ",".join(_axis(s) for s in type_.shape)


def _axis(size: Size) -> str:
    text = TIMES.sub(r"\1\2", str(size))
    return text if " " not in text else f"({text})"
