"""The head: the weights of the product that gives the first output."""

from __future__ import annotations

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Mode, Model, Ref
from dsvgraph.ops.base import Pointwise
from dsvgraph.ops.weighted import Linear


def output_layer_size(model: Model) -> Size:
    """Return elements of the matrix (tied or owned) and the bias whose product is the first output; 0 without one.

    The output is followed back through ops that keep its shape and out of blocks that are called once.
    """
    return _behind(model, model.outputs[next(iter(model.outputs))])


def _behind(graph: Graph, ref: Ref) -> Size:
    node = graph.nodes.get(ref.node)
    if node is None:
        return 0
    if isinstance(node.op, Linear):
        owned: Size = sum((w.numel for w in node.weights.values()), start=0)
        return sum((graph.type(r).numel for r in node.tied.values()), start=owned)
    if isinstance(node.op, Pointwise):
        return _behind(graph, next(iter(node.inputs.values())))
    once = node.op is None and node.mode is Mode.CALL
    return _behind(node.copies[0].graph, node.copies[0].graph.outputs[ref.port]) if once else 0
