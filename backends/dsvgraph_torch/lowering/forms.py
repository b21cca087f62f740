"""The two forms of a value in code that decodes: of the new positions alone, and with those of earlier ones.

In training and over whole rows the two are one tensor.
"""

from __future__ import annotations

import ast

from dsvgraph.build.decoding.state import Decoding
from dsvgraph.graph import Graph, Node, Ref, walk
from dsvgraph.ops.decoding import State
from dsvgraph_torch.lowering.names import variable
from dsvgraph_torch.lowering.source import assign, expression, literal, path
from dsvgraph_torch.lowering.writer import ClassWriter


def inputs(writer: ClassWriter) -> list[str]:
    """Return variables for the inputs; write the lines that keep them or cut them to the new positions."""
    names = []
    for port in writer.graph.inputs:
        ref, rows = Ref(port, port), port in writer.found.given
        names.append(writer.new(writer.forms.named(ref, port, rows)))
        writer.forms.bind(ref, names[-1], rows)
    for port in writer.graph.inputs:
        settle(writer, Ref(port, port))
    return names


def settle(writer: ClassWriter, ref: Ref, port: str = "", alias: bool = False) -> None:
    """Write the line that makes the other form of a value, if somebody reads it.

    An ``alias`` is the variable of another value too.
    """
    forms, base = writer.forms, f"{ref.node}_{port}" if port else ref.node
    cut = forms.cut(ref, writer.lowering.decoder.length)
    if cut is not None:
        name, value = writer.new(base), forms.past[ref]
        more = [literal(cut)] if cut != 1 else []
        writer.line(assign(name, expression("ctx.newest(value, *more)", value=path(value), more=more)))
        forms.bind(ref, name, False)
    elif ref in writer.found.kept and ref not in forms.past:
        value = forms.vars[ref]
        name = writer.new(f"{base}_all") if alias or not forms.kept_alone(ref) else value
        writer.line(assign(name, with_earlier(writer, ref, name, path(value))))
        forms.bind(ref, name, True)


def with_earlier(writer: ClassWriter, ref: Ref, name: str, value: ast.expr) -> ast.expr:
    """Return a value behind what the cache holds of it for earlier positions."""
    last = writer.found.kept[ref].last
    more = {} if last is None else {"last": last}
    return expression("ctx.with_earlier(key, value, **more)", key=key(writer, name), value=value, more=more)


def key(writer: ClassWriter, name: str) -> ast.expr:
    """Return a place in the cache; each use of shared weights has its own."""
    name = variable(name, writer.out.kept)
    writer.out.kept.add(name)
    return expression("(self, name, ctx.copy_index)" if writer.lowering.shared else "(self, name)", name=name)


def states(writer: ClassWriter, node: Node) -> dict[str, ast.expr]:
    """Return the places in the cache of the tensors that an op carries from position to position."""
    assert node.op is not None
    found = node.op.decoding_state(node.input_types, node.outputs)
    return {n: key(writer, f"{node.name}_{n}") for n, kept in found.items() if isinstance(kept, State)}


def numbered(root: Decoding) -> bool:
    """Return whether lines that ask for the numbers of positions run over earlier ones too."""
    found = (one.graph.nodes[name] for one in root.all() for name in one.between)
    return any(map(_along, found))


def _along(node: Node) -> bool:
    if node.op:
        return node.op.positions.along
    inner: list[Graph] = [copies.graph for copies in node.copies]
    return any(visit.node.op is not None and visit.node.op.positions.along for graph in inner for visit in walk(graph))
