"""The heads of a model as a generator that hands out predictions one by one, so that each can be drawn from."""

from __future__ import annotations

import ast

from dsvgraph.graph import Ref
from dsvgraph.passes.graph.drafting import Drafting, heads
from dsvgraph_torch.lowering import loops, root
from dsvgraph_torch.lowering.analysis import shared
from dsvgraph_torch.lowering.body import GraphWriter, write_class
from dsvgraph_torch.lowering.forms import inputs
from dsvgraph_torch.lowering.names import reserved
from dsvgraph_torch.lowering.sharing import ClassSource
from dsvgraph_torch.lowering.source import function, path, printed, statement
from dsvgraph_torch.lowering.units import Class, Lowering

NAME = "drafts"  # of the function that the template below defines


def emit_drafts(found: Drafting) -> str:
    """Return the source of ``drafts(self, row, *handed, ctx)``: it yields what each stage predicts, in order.

    ``handed`` is what `_trunk` of the compiled model returns, the first output only if a head reads it.
    """
    model = found.model
    lowering = Lowering(model, write_class, full=True)
    source = ClassSource(lowering.names[model], "", 0, {}, doc="", base="Model")
    out = Class(source, taken=reserved() | {"positions", "documents", "labels", "cache"}, shared=shared(model))
    writer = GraphWriter(lowering, out, lowering.root())
    args = inputs(writer)
    later = heads(model)
    trunk = [node for node in model.nodes.values() if node not in later]
    writer.nodes(trunk)
    source.body = []
    looped = {stage.ref for stage in found.stages if stage.in_loop}
    for node in later:
        ports = tuple(port for port in node.outputs if Ref(node.name, port) in looped)
        if ports:
            loops.repeat(writer, node, ports)
        else:
            writer.nodes([node])
        _yield_values(writer, found, node.name)
    handed = root.passed(model, writer, trunk, later, next(iter(model.outputs)))
    read = {n.id for line in source.body for n in ast.walk(line) if isinstance(n, ast.Name)}
    handed = handed if handed[-1] in read else handed[:-1]
    return printed([function("def drafts(self):", source.body, [*args, *handed, "ctx"])])


def _yield_values(writer: GraphWriter, found: Drafting, name: str) -> None:
    """Write the lines that hand out the predictions of a line that makes all of them at once."""
    for stage in found.stages:
        if stage.ref.node == name and not stage.in_loop:
            value = path(writer.value(stage.ref))
            stacked = stage.drafters[0].depth > 0
            writer.line(statement("yield list(value)" if stacked else "yield [value]", value=value))
