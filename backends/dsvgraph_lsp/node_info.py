"""What the hover of a line shows of its node: shapes in names and in numbers, weights, parameters, FLOPs, paths."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from dsvgraph.dims import Size, names, ratio, total
from dsvgraph.graph import Graph, Mode, Model, Node, join, span_text, walk
from dsvgraph.passes.count.generic import generic_model, integer_config
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.quantity import number
from dsvgraph.types import Type

SEQ = 4096  # tokens of the row that FLOPs are counted for
MAX_FORMULA = 120  # characters; a longer formula is left out
MAX_PATHS = 3
NodeInModel = tuple[Model, Graph, Node]


def node_info(model: Model | None, graph: Graph, node: Node) -> Iterator[str]:
    """Yield one Markdown list item per property of ``node``; without a model only those that follow from its block."""
    named = _in_generic_model(model, graph, node) if model else None
    generic_node = named[2] if named else node
    for kind, own, other in (
        ("in", node.input_types, generic_node.input_types),
        ("out", node.outputs, generic_node.outputs),
    ):
        yield from (f"- {kind} `{port}` {_shape(other.get(port, type_), type_)}" for port, type_ in own.items())
    for name, weight in node.weights.items():
        yield f"- weight `{name}` {_shape(generic_node.weights[name].type, weight.type)}"
    yield from (f"- weight `{name}` of `{ref}`" for name, ref in node.tied.items())
    if node.mode is not Mode.CALL:
        yield f"- {node.mode} `{node.count}` from {node.start}"
    owned = _owned(node)
    if owned:
        yield f"- parameters {_amount(owned, _owned(generic_node))}"
    if model:
        yield from _flops((model, graph, node), named)
        yield from _paths(model, node)


@lru_cache(maxsize=8)
def _generic_model(model: Model) -> Model | None:
    """Return ``model`` with names for its sizes."""
    return generic_model(model)


def _in_generic_model(model: Model, graph: Graph, node: Node) -> NodeInModel | None:
    """Return the same line of the generic model; None where that has no such line."""
    whole = _generic_model(model)
    if whole is None:
        return None
    for other in [whole] if graph is model else whole.graphs():
        if other.name == graph.name and other.span == graph.span and node.name in other.nodes:
            return whole, other, other.nodes[node.name]
    return None


def _shape(named: Type, type_: Type) -> str:
    return f"`{type_}`" if named == type_ else f"`{named}` = `{type_}`"


def _owned(node: Node) -> Size:
    """Return how many numbers the weights of a node and of all its copies hold."""
    inner = ((v.copies * copies.count, v.node) for copies in node.copies for v in walk(copies.graph))
    return total(n * w.numel for n, owner in ((1, node), *inner) for w in owner.weights.values())


def _amount(size: Size, formula: Size) -> str:
    digits = f"{size:,}" if isinstance(size, int) else f"`{size}`"
    text = str(formula)
    return digits if text == str(size) or len(text) > MAX_FORMULA else f"{digits} = `{text}`"


def _flops(whole: NodeInModel, named: NodeInModel | None) -> Iterator[str]:
    """Yield the FLOPs of one token in a row of SEQ, where the model has rows of tokens."""
    model = whole[0]
    row = next((type_ for type_ in model.inputs.values() if type_.rank > 1), None)
    if row is None:
        return
    sizes = {name: n for size, n in zip(row.shape, (1, SEQ), strict=False) for name in names(size)}
    size = _per_token(*whole, row, sizes)
    if not size:
        return
    formula = str(_per_token(*named, row, {**integer_config(model), **sizes})) if named else ""
    suffix = f" = `{formula}`" if formula and len(formula) <= MAX_FORMULA else ""
    yield f"- FLOPs {number(size, sizes):,.0f} a token, at {SEQ:,} tokens{suffix}"


def _per_token(model: Model, graph: Graph, node: Node, row: Type, sizes: dict[str, int]) -> Size:
    positions = row.shape[0] * row.shape[1]
    counter = GraphCounter(positions, sizes)
    return ratio(counter.node(graph, node, counter.needed(graph, None), True).forward, positions)


def _paths(model: Model, node: Node) -> Iterator[str]:
    copies = span_text(node.start, node.count) if node.mode is not Mode.CALL else ""
    found = [(join(visit.path, copies), visit.copies) for visit in walk(model) if visit.node is node]
    for path, times in found[:MAX_PATHS]:
        yield f"- path `{path}`" + (f", {times} copies" if times != 1 else "")
    if len(found) > MAX_PATHS:
        yield f"- and {len(found) - MAX_PATHS} paths more"
