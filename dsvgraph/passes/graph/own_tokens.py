"""A model as it predicts: without the tokens that `interleave_tokens` inserts."""

from __future__ import annotations

from dataclasses import replace

from dsvgraph.build.checks.inserted import LEFT_OUT, reads_inserted
from dsvgraph.errors import DsvError
from dsvgraph.graph import Copies, Graph, Model, Node
from dsvgraph.ops.interleaving import InterleaveTokens
from dsvgraph.types import Type


def without_inserted(model: Model) -> Model:
    """Return the model on the rows' own tokens, as decoding runs it; the model itself where none are inserted."""
    kinds = (type(visit.op) for graph in model.graphs() for visit in graph.nodes.values())
    if InterleaveTokens not in kinds:
        return model
    return replace(model, nodes=_nodes(model, {}))


def check_drafts(model: Model) -> None:
    """Raise DsvError if an output is made of inserted tokens, which are not there when it could draft."""
    for output in model.outputs:
        if node := reads_inserted(model, output):
            words = f"`{output}` is made of the tokens that `{node.name}` takes apart, so it cannot draft"
            raise DsvError(words, node.span, hint=LEFT_OUT)


def _nodes(graph: Graph, memo: dict[Graph, Graph]) -> dict[str, Node]:
    return {name: _node(node, memo) for name, node in graph.nodes.items()}


def _own(types: dict[str, Type]) -> dict[str, Type]:
    return {port: type_.own_tokens for port, type_ in types.items()}


def _node(node: Node, memo: dict[Graph, Graph]) -> Node:
    """Return a line on the rows' own tokens; nothing is inserted into them."""
    gone = InterleaveTokens.may_be_empty if isinstance(node.op, InterleaveTokens) else ()
    inserted = any(type_.interleaving for type_ in node.input_types.values())
    return replace(
        node,
        inputs={port: ref for port, ref in node.inputs.items() if port not in gone},
        input_types=_own({port: type_ for port, type_ in node.input_types.items() if port not in gone}),
        outputs=_own(node.outputs),
        op=node.op.on_own_tokens() if node.op and inserted else node.op,
        copies=tuple(Copies(_graph(copies.graph, memo), copies.count) for copies in node.copies),
    )


def _graph(graph: Graph, memo: dict[Graph, Graph]) -> Graph:
    if graph not in memo:
        memo[graph] = replace(graph, inputs=_own(graph.inputs), nodes=_nodes(graph, memo))
    return memo[graph]
