"""A compiler that writes numpy functions, one for each distinct block of a model.

It meets the contract dsvgraph.backends.Compiler: this module has `emit` and `report`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Mode, Model, Node, PortRole, Ref, join
from dsvgraph.passes.count.cost import cost
from dsvgraph_numpy.lowerings import LOWERINGS, RUNTIME


def emit(model: Model, full: bool = False) -> str:
    """Return the model as one file of numpy functions.

    Raise DsvError for a line that has no lowering here, and with ``full``: packed documents have none either.
    """
    if full:
        raise DsvError("the backend `numpy` takes no packed documents", hint="leave out --full")
    names = {graph: f"block_{number}" for number, graph in enumerate(model.graphs())}
    names[model] = "forward"
    table = "".join(f"    {path!r}: {shape},\n" for path, shape in _weights(model))
    functions = ["\n".join(_function(graph, names)) for graph in names]
    head = f"# The model {model.name!r}: call forward(weights, inputs), with the weights by the names in WEIGHTS."
    return "\n\n".join([f"{head}\n\nimport numpy as np\n\nWEIGHTS = {{\n{table}}}\n{RUNTIME}", *functions]) + "\n"


def report(model: Model) -> dict[str, Any]:
    """Return what compiling gives. Raise DsvError if the weights are not as many as the cost counts."""
    source = emit(model)
    names: dict[str, Any] = {}
    exec(compile(source, f"<{model.name}>", "exec"), names)
    parameters, counted = sum(map(prod, names["WEIGHTS"].values())), cost(model).parameters.total
    if parameters != counted:
        raise DsvError(f"the source has {parameters:,} parameters, and the cost counts {counted:,}")
    facts = {"name": model.name, "parameters": parameters, "weights": len(names["WEIGHTS"])}
    return facts | {"lines": source.count("\n"), "numpy": np.__version__}


def _weights(graph: Graph, prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield path and shape of every weight, copies written out."""
    for node in graph.nodes.values():
        for name, weight in node.weights.items():
            yield join(prefix, node.at, name), tuple(map(int, weight.shape))
        for number, copy in node.copy_graphs():
            yield from _weights(copy, join(prefix, node.segment(number)))


def _function(graph: Graph, names: dict[Graph, str]) -> Iterator[str]:
    """Yield the lines of the function of one graph: it takes the weights, its path, and its inputs by name."""
    yield f"def {names[graph]}(weights, inputs, path=''):"
    yield from (f"    {_name(Ref(port, port))} = inputs[{port!r}]" for port in graph.inputs)
    for node in graph.nodes.values():
        where = f"  # line {node.span.line} of the spec" if node.span else ""
        yield from (line + where for line in (_op(graph, node) if node.op else _calls(graph, node, names)))
    results = ", ".join(f"{name!r}: {_value(graph, ref)}" for name, ref in graph.outputs.items())
    yield f"    return {{{results}}}"


def _op(graph: Graph, node: Node) -> Iterator[str]:
    if node.callee not in LOWERINGS or node.mode is not Mode.CALL:
        raise _refusal(node, f"`{node.callee}`")
    values = {port: _value(graph, ref) for port, ref in node.sources.items()}
    values |= {name: _weight(node, name) for name in node.weights}
    yield f"    {_name(Ref(node.name, node.first))} = {LOWERINGS[node.callee](node.op, values)}"


def _calls(graph: Graph, node: Node, names: dict[Graph, str]) -> Iterator[str]:
    """Yield one call for each copy: what is carried goes from each to the next."""
    if node.mode is Mode.EACH or not {*node.roles.values()} <= {PortRole.CARRIED, PortRole.SHARED}:
        raise _refusal(node, "copies side by side, and values that are sliced or stacked")
    given = {port: _value(graph, ref) for port, ref in node.sources.items()}
    for number, copy in node.copy_graphs():
        inputs = ", ".join(f"{port!r}: {value}" for port, value in given.items())
        below = f"path + {node.segment(number) + '.'!r}" if node.segment(number) else "path"
        yield f"    {node.name}_ = {names[copy]}(weights, {{{inputs}}}, {below})"
        given |= {port: f"{node.name}_[{port!r}]" for port in node.carried}
    for port in node.outputs:
        yield f"    {_name(Ref(node.name, port))} = {node.name}_[{port!r}]"


def _value(graph: Graph, ref: Ref) -> str:
    """Return the expression of an input, of an output of a line, or of its weight."""
    if ref.node in graph.inputs or ref.port in graph.nodes[ref.node].outputs:
        return _name(ref)
    return _weight(graph.nodes[ref.node], ref.port)


def _weight(node: Node, name: str) -> str:
    return f"weights[path + {join(node.at, name)!r}]"


def _name(ref: Ref) -> str:
    """Return the name of a variable; the underscores keep it apart from keywords and functions."""
    return f"{ref.node}__{ref.port}"


def _refusal(node: Node, what: str) -> DsvError:
    return DsvError(f"the backend `numpy` does not lower {what}", node.span, code=Code.NOT_LOWERED)
