"""Tokens that `interleave_tokens` inserts are there while a model trains, so what it predicts with is made of none."""

from __future__ import annotations

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model, Node
from dsvgraph.graph.dependencies import Dependencies, DependencyAnalysis
from dsvgraph.ops.interleaving import SeparateTokens

LEFT_OUT = "decoding leaves inserted tokens out, which are there only while the model trains"


def check_inserted(model: Model) -> None:
    """Raise DsvError if the first output is made of inserted tokens, or if an output has them in its rows."""
    for name, ref in model.outputs.items():
        node = model.nodes.get(ref.node)
        if model.type(ref).interleaving and node:
            hint = "`separate_tokens` takes them apart"
            raise DsvError(
                f"output `{name}` has inserted tokens in its rows", node.span, code=Code.POSITIONS, hint=hint
            )
    first = next(iter(model.outputs))
    if node := reads_inserted(model, first):
        words = f"the first output, `{first}`, is made of inserted tokens"
        raise DsvError(words, node.span, code=Code.POSITIONS, hint=LEFT_OUT)


def reads_inserted(model: Model, output: str) -> Node | None:
    """Return the line that an output takes inserted tokens from; None if it does not depend on them."""
    dependencies = DependencyAnalysis()
    return _source(model, dependencies.of(model, [output]), dependencies)


def _source(graph: Graph, needed: Dependencies, dependencies: DependencyAnalysis) -> Node | None:
    for node in graph.nodes.values():
        if isinstance(node.op, SeparateTokens) and "inserted" in needed.ports.get(node.name, ()):
            return node
        for copies, outputs in zip(node.copies, needed.copies.get(node.name, ()), strict=False):
            if found := _source(copies.graph, dependencies.of(copies.graph, outputs), dependencies):
                return found
    return None
