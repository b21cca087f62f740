"""What the checker knows of a line: shapes in names and in numbers, weights, parameters, FLOPs, path."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from dsvgraph.dims import Size, names, ratio, total
from dsvgraph.graph import Graph, Model, Node, join, span_text, walk
from dsvgraph.passes.count.formulas import generic, whole_numbers
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.count.tally import Meter
from dsvgraph.types import Type

SEQ = 4096  # tokens of the row that FLOPs are told for
LONG = 120  # characters of a formula that is still read
Built = tuple[Model, Graph, Node]


def facts(model: Model | None, graph: Graph, node: Node) -> Iterator[str]:
    """One fact about a node per line, as Markdown; without a model only what the block itself says."""
    named = _named(model, graph, node) if model else None
    twin = named[2] if named else node
    for kind, own, other in (("in", node.ins, twin.ins), ("out", node.outputs, twin.outputs)):
        yield from (f"- {kind} `{port}` {_shape(other.get(port, type_), type_)}" for port, type_ in own.items())
    for name, weight in node.weights.items():
        yield f"- weight `{name}` {_shape(twin.weights[name].type, weight.type)}"
    yield from (f"- weight `{name}` of `{ref}`" for name, ref in node.tied.items())
    if node.mode != "call":
        yield f"- {node.mode} `{node.count}` from {node.start}"
    owned = _owned(node)
    if owned:
        yield f"- parameters {_amount(owned, _owned(twin))}"
    if model:
        yield from _flops(model, (model, graph, node), named)
        yield from _paths(model, node)


@lru_cache(maxsize=8)
def _twin(model: Model) -> Model | None:
    """The model with names for its sizes."""
    return generic(model)


def _named(model: Model, graph: Graph, node: Node) -> Built | None:
    """The same line of the twin."""
    twin = _twin(model)
    same = [twin] if twin and graph is model else twin.graphs() if twin else ()
    for other in same:
        if other.name == graph.name and other.span == graph.span and node.name in other.nodes:
            return (twin, other, other.nodes[node.name]) if twin else None
    return None


def _shape(named: Type, type_: Type) -> str:
    return f"`{type_}`" if named == type_ else f"`{named}` = `{type_}`"


def _owned(node: Node) -> Size:
    """The weights of a node with all its copies."""
    inner = ((v.copies * copies.count, v.node) for copies in node.copies for v in walk(copies.graph))
    return total(n * w.numel for n, owner in ((1, node), *inner) for w in owner.weights.values())


def _amount(size: Size, formula: Size) -> str:
    number = f"{size:,}" if isinstance(size, int) else f"`{size}`"
    told = str(formula)
    return number if told == str(size) or len(told) > LONG else f"{number} = `{told}`"


def _flops(model: Model, built: Built, named: Built | None) -> Iterator[str]:
    """The FLOPs of one token in a row of SEQ."""
    row = next((type_ for type_ in model.inputs.values() if type_.rank > 1), None)
    if row is None:
        return
    sizes = {name: n for size, n in zip(row.shape, (1, SEQ), strict=False) for name in names(size)}
    size = _per_token(*built, row, sizes)
    if not size:
        return
    formula = str(_per_token(*named, row, {**whole_numbers(model), **sizes})) if named else ""
    told = f" = `{formula}`" if formula and len(formula) <= LONG else ""
    yield f"- FLOPs {number(size, sizes):,.0f} a token, at {SEQ:,} tokens{told}"


def _per_token(model: Model, graph: Graph, node: Node, row: Type, sizes: dict[str, int]) -> Size:
    positions = row.shape[0] * row.shape[1]
    meter = Meter(positions, sizes)
    return ratio(meter.node(graph, node, meter.needs(graph, None), True).forward, positions)


def _paths(model: Model, node: Node) -> Iterator[str]:
    copies = span_text(node.start, node.count) if node.mode != "call" else ""
    found = [(join(visit.path, copies), visit.copies) for visit in walk(model) if visit.node is node]
    for path, times in found[:3]:
        yield f"- path `{path}`" + (f", {times} copies" if times != 1 else "")
    if len(found) > 3:
        yield f"- and {len(found) - 3} paths more"
