"""The graph in the format of Google's Model Explorer: every op a node, blocks as namespaces, copies folded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dsvgraph.graph import Graph, Mode, Model, Node, Ref, join
from dsvgraph.types import Type, shown
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.style.words import number, op_title, spot, times
from dsvgraph_graphviz.text.titles import block_title

Source = tuple[str, str]  # a node and the place of the value among its outputs


def explorer(model: Model, analysis: Analysis) -> str:
    """Return a collection of one graph, as JSON; raises nothing: every model has one."""
    walk = _Walk(analysis)
    ins = {name: walk.border(name, "input", type_) for name, type_ in model.inputs.items()}
    outs = walk.body(model, ins, "", "")
    for name, source in outs.items():
        walk.border(f"out.{name}", name, model.type(model.outputs[name]), source)
    graph = {"id": model.name or "model", "nodes": walk.nodes, "groupNodeAttributes": walk.groups}
    return json.dumps({"label": model.name, "graphs": [graph]}, indent=1, ensure_ascii=False) + "\n"


@dataclass
class _Walk:
    """Goes through all bodies, each kind of copies once."""

    analysis: Analysis
    nodes: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)

    def border(self, id_: str, label: str, type_: Type, source: Source | None = None) -> Source:
        """Add an input or an output of the model."""
        edges = [_edge(source, 0)] if source else []
        self._add(id_, id_ if label == "input" else label, "", {}, edges, {"value": type_})
        return id_, "0"

    def body(self, graph: Graph, ins: Mapping[str, Source], path: str, space: str) -> dict[str, Source]:
        """Add the nodes of one body; return where its outputs come from."""
        known = {Ref(name, name): source for name, source in ins.items()}
        for node in graph.nodes.values():
            wired = {p: known[ref] for p, ref in node.sources.items() if ref in known}
            inner = join(path, node.at)
            found = self._op(graph, node, wired, inner, space) if node.op else self._block(node, wired, inner, space)
            known |= {Ref(node.name, port): source for port, source in found.items()}
        return {name: known[ref] for name, ref in graph.outputs.items() if ref in known}

    def _op(self, graph: Graph, node: Node, wired: Mapping[str, Source], path: str, space: str) -> dict[str, Source]:
        id_ = f"{path}:{node.name}" if space or path != node.name else path
        attrs = {"path": path, "op": node.callee, "line": spot(node.span)}
        attrs |= {k: shown(v) for k, v in (node.op.model_dump() if node.op else {}).items() if v is not None}
        attrs |= {f"weight {join(path, name)}": str(weight.type) for name, weight in node.weights.items()}
        edges = [_edge(source, i) for i, source in enumerate(wired.values())]
        outputs = {**node.outputs, **{name: weight.type for name, weight in node.weights.items()}}
        self._add(id_, node.name if node.weights else op_title(node), space, attrs, edges, outputs)
        return {port: (id_, str(i)) for i, port in enumerate(outputs)}

    def _block(self, node: Node, wired: Mapping[str, Source], path: str, space: str) -> dict[str, Source]:
        """Add every kind of copies in a row; what is carried goes from one to the next."""
        state, found = dict(wired), dict[str, Source]()
        for span, copies in node.numbered():
            inner = "/".join(part for part in (space, node.name + (f" {span}" if span else "")) if part)
            self.groups[inner] = self._about(copies.graph, node, join(path, span))
            outs = self.body(copies.graph, state, join(path, span), inner)
            state |= {port: source for port, source in outs.items() if port in node.carried}
            found |= outs
        return found or {port: wired[port] for port in node.outputs if port in wired}

    def _about(self, graph: Graph, node: Node, path: str) -> dict[str, str]:
        count = number(self.analysis.parameters(graph))
        about = {"path": path, "block": block_title(graph, self.analysis), "parameters of one": count}
        return about if node.mode is Mode.CALL else {**about, "copies": times(node)}

    def _add(
        self, id_: str, label: str, space: str, attrs: Mapping[str, str], edges: list[dict[str, str]],
        outputs: Mapping[str, Type],
    ) -> None:  # fmt: skip
        self.nodes.append(
            {
                "id": id_,
                "label": label,
                "namespace": space,
                "attrs": [{"key": k, "value": v} for k, v in attrs.items() if v],
                "incomingEdges": edges,
                "outputsMetadata": [_metadata(i, port, type_) for i, (port, type_) in enumerate(outputs.items())],
            }
        )


def _edge(source: Source, place: int) -> dict[str, str]:
    return {"sourceNodeId": source[0], "sourceNodeOutputId": source[1], "targetNodeInputId": str(place)}


def _metadata(place: int, port: str, type_: Type) -> dict[str, Any]:
    attrs = [{"key": "__tensor_tag", "value": port}, {"key": "tensor_shape", "value": str(type_)}]
    return {"id": str(place), "attrs": attrs}
