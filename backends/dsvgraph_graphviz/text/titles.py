"""Titles of blocks: by what they are made of, else by their documentation or name."""

from __future__ import annotations

from collections.abc import Collection

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Node
from dsvgraph.ops.base import Kind
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.layers import Network, bottlenecks, networks, repeated, strands, width
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.style.words import cut, first_words, number, op_title

LAYERS = {Role.DENSE: "Dense block", Role.EXPERTS: "MoE block"}
PARTS = (Role.ATTENTION, Role.DENSE, Role.EXPERTS)
GATED = {"silu": "SwiGLU", "gelu": "GeGLU", "relu": "ReGLU"}
ATTENTIONS = {
    "MLA": "Multi-head latent attention", "MHA": "Multi-head attention", "MQA": "Multi-query attention",
    "GQA": "Grouped-query attention",
}  # fmt: skip


def block_title(graph: Graph, analysis: Analysis) -> str:
    """Mixture of experts, Grouped-query attention, SwiGLU feed-forward network; else the block's own words."""
    role, own = analysis.roles.of_graph(graph), first_words(graph.doc) or cut(graph.name)
    if analysis.roles.is_layer_body(graph):
        return LAYERS[role]
    if analysis.roles.holds_layers(graph):
        return own
    if role == Role.EXPERTS and Kind.ATTENTION not in analysis.roles.kinds(graph):
        return "Mixture of experts"
    if role == Role.ATTENTION:
        found, mixer = analysis.find(graph, "attention"), analysis.mixer(graph)
        return ATTENTIONS[_attention(*found)] if found else f"{mixer[:1].upper()}{mixer[1:]}"
    if role == Role.DENSE:
        gate = _gate(analysis.roles.ops(graph))
        return f"{gate} feed-forward network" if gate else "Feed-forward network"
    return own


def _attention(body: Graph, node: Node) -> str:
    heads, groups = node.input_types["q"].shape[2], node.input_types["k"].shape[2]
    if bottlenecks(body, strands(body)[1]):
        return "MLA"
    if groups == heads:
        return "MHA"
    return "MQA" if groups == 1 else "GQA"


def _gate(ops: Collection[str]) -> str:
    """Return what gates a feed-forward network; nothing where it has no product."""
    gates = [name for op, name in GATED.items() if op in ops]
    if "mul" not in ops:
        return ""
    return gates[0] if len(gates) == 1 else "Gated"


def contents(graph: Graph, analysis: Analysis) -> str:
    """Return what a body of layers is made of, in its order: MLA + SwiGLU 18,432."""
    inline = {found.last.name: found for found in networks(graph)}
    parts = [_part(graph, node, inline.get(node.name), analysis) for node in graph.nodes.values()]
    return " + ".join(repeated([words for words in parts if words]))


def _part(graph: Graph, node: Node, network: Network | None, analysis: Analysis) -> str:
    """Return one line as a part of a layer; nothing for what is neither attention nor a feed-forward network."""
    if network is not None:
        return _feed_forward(network.ops, network.last.weights["weight"].shape[1] if network.last.weights else None)
    if node.op:
        return _windowed(graph, node) if node.op.kind == Kind.ATTENTION else ""
    role = analysis.roles.of(node)
    if analysis.roles.is_layered(node):
        inner = [contents(copies.graph, analysis) for copies in node.copies]
        kinds = " or ".join(dict.fromkeys(inner))
        return f"{number(node.count)} × ({kinds})" if node.count != 1 else kinds
    return part_title(node.copies[0].graph, role, analysis) if role in PARTS and node.copies else ""


def part_title(graph: Graph, role: Role, analysis: Analysis) -> str:
    """Return a block as a part of a layer: MLA, GQA (window 128), SwiGLU 18,432, mixture of experts."""
    if role == Role.EXPERTS:
        return "mixture of experts"
    if role == Role.ATTENTION:
        found = analysis.find(graph, "attention")
        return _windowed(*found) if found else analysis.mixer(graph)
    return _feed_forward(analysis.roles.ops(graph), width(graph))


def _windowed(body: Graph, node: Node) -> str:
    """Return an attention with its window; another op that mixes positions as it is called."""
    if node.callee != "attention":
        return op_title(node)
    window = node.op.window  # type: ignore[union-attr]
    return _attention(body, node) + (f" (window {number(window)})" if window is not None else "")


def _feed_forward(ops: Collection[str], inner: Size | None) -> str:
    return (_gate(ops) or "FFN") + (f" {number(inner)}" if inner else "")


def lowered(title: str) -> str:
    """Return a title within a sentence: a mixture of experts, but MoE block."""
    return f"{title[:1].lower()}{title[1:]}" if title[1:].partition(" ")[0].islower() else title


def called(node: Node, analysis: Analysis) -> str:
    """Return a node in a sentence: RMSNorm, lm_head, a mixture of experts."""
    if node.op:
        return op_title(node) if not node.weights or node.op.kind is Kind.NORM else cut(node.name)
    if not node.copies:
        return cut(node.name)
    return lowered(block_title(node.copies[0].graph, analysis))
