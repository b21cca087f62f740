"""What a block is called: by what it is made of, else by its doc or its name."""

from __future__ import annotations

from dsvgraph.graph import Graph, Node
from dsvgraph_graphviz.facts import Facts, ranks
from dsvgraph_graphviz.roles import Role, strands
from dsvgraph_graphviz.words import cut, first_words, op_title

LAYERS = {Role.DENSE: "Dense block", Role.EXPERTS: "Expert block"}
GATED = {"silu": "SwiGLU", "gelu": "GeGLU", "relu": "ReGLU"}


def block_title(graph: Graph, facts: Facts) -> str:
    """Mixture of experts, Grouped-query attention, SwiGLU feed-forward network; else the block's own words."""
    role = facts.roles.of_graph(graph)
    if facts.roles.is_layer_body(graph):
        return LAYERS[role]
    if role == Role.EXPERTS and "attention" not in facts.roles.ops(graph):
        return "Mixture of experts"
    if role == Role.ATTENTION:
        return _attention(graph, facts)
    if role == Role.DENSE:
        return _feed_forward(facts.roles.ops(graph))
    return first_words(graph.doc) or cut(graph.name)


def _attention(graph: Graph, facts: Facts) -> str:
    found = facts.find(graph, "attention")
    assert found is not None
    body, node = found
    heads, groups = node.ins["q"].shape[2], node.ins["k"].shape[2]
    if ranks(body, strands(body)[1]):
        return "Multi-head latent attention"
    if groups == heads:
        return "Multi-head attention"
    return "Multi-query attention" if groups == 1 else "Grouped-query attention"


def _feed_forward(ops: frozenset[str]) -> str:
    gates = [name for op, name in GATED.items() if op in ops]
    if "mul" not in ops:
        return "Feed-forward network"
    return f"{gates[0] if len(gates) == 1 else 'Gated'} feed-forward network"


def called(node: Node, facts: Facts) -> str:
    """A node in a sentence: RMSNorm, lm_head, a mixture of experts."""
    if node.op:
        return op_title(node) if not node.weights or "norm" in node.callee else cut(node.name)
    if not node.runs:
        return cut(node.name)
    title = block_title(node.runs[0].graph, facts)
    return f"{title[:1].lower()}{title[1:]}" if title[1:2].islower() else title
