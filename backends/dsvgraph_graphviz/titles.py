"""What a block is called: by what it is made of, else by its doc or its name."""

from __future__ import annotations

from collections.abc import Collection

from dsvgraph.graph import Graph, Node
from dsvgraph.ops.base import Kind
from dsvgraph_graphviz.facts import Facts, ranks, width
from dsvgraph_graphviz.roles import Role, strands
from dsvgraph_graphviz.words import cut, first_words, number, op_title

LAYERS = {Role.DENSE: "Dense block", Role.EXPERTS: "MoE block"}
GATED = {"silu": "SwiGLU", "gelu": "GeGLU", "relu": "ReGLU"}
ATTENTIONS = {
    "MLA": "Multi-head latent attention", "MHA": "Multi-head attention", "MQA": "Multi-query attention",
    "GQA": "Grouped-query attention",
}  # fmt: skip


def block_title(graph: Graph, facts: Facts) -> str:
    """Mixture of experts, Grouped-query attention, SwiGLU feed-forward network; else the block's own words."""
    role = facts.roles.of_graph(graph)
    if facts.roles.is_layer_body(graph):
        return LAYERS[role]
    if role == Role.EXPERTS and Kind.ATTENTION not in facts.roles.kinds(graph):
        return "Mixture of experts"
    if role == Role.ATTENTION:
        found = _attention(graph, facts)
        return ATTENTIONS.get(found, f"{found[:1].upper()}{found[1:]}")
    if role == Role.DENSE:
        gate = _gate(facts.roles.ops(graph))
        return f"{gate} feed-forward network" if gate else "Feed-forward network"
    return first_words(graph.doc) or cut(graph.name)


def _attention(graph: Graph, facts: Facts) -> str:
    found = facts.find(graph, "attention")
    if found is None:  # another op that mixes positions
        return facts.mixer(graph)
    body, node = found
    heads, groups = node.ins["q"].shape[2], node.ins["k"].shape[2]
    if ranks(body, strands(body)[1]):
        return "MLA"
    if groups == heads:
        return "MHA"
    return "MQA" if groups == 1 else "GQA"


def _gate(ops: Collection[str]) -> str:
    """What gates a feed-forward network; nothing where it has no product."""
    gates = [name for op, name in GATED.items() if op in ops]
    if "mul" not in ops:
        return ""
    return gates[0] if len(gates) == 1 else "Gated"


def part_title(graph: Graph, role: Role, facts: Facts) -> str:
    """A block as a part of a layer: MLA, GQA (window 128), SwiGLU 18,432, mixture of experts."""
    if role == Role.EXPERTS:
        return "mixture of experts"
    if role == Role.ATTENTION:
        found = facts.find(graph, "attention")
        window = found and found[1].op.window  # type: ignore[union-attr]
        return _attention(graph, facts) + (f" (window {number(window)})" if window is not None else "")
    inner = width(graph)
    return (_gate(facts.roles.ops(graph)) or "FFN") + (f" {number(inner)}" if inner else "")


def lowered(title: str) -> str:
    """A title within a sentence: a mixture of experts, but MoE block."""
    return f"{title[:1].lower()}{title[1:]}" if title[1:].partition(" ")[0].islower() else title


def called(node: Node, facts: Facts) -> str:
    """A node in a sentence: RMSNorm, lm_head, a mixture of experts."""
    if node.op:
        return op_title(node) if not node.weights or "norm" in node.callee else cut(node.name)
    if not node.runs:
        return cut(node.name)
    return lowered(block_title(node.runs[0].graph, facts))
