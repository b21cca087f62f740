"""The two forms of a value in code that decodes: of the new positions alone, and with the rows of earlier ones.

In training and over whole rows the two are one tensor.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dsvgraph.build.decoding.state import Decoding, axis
from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Node, Ref, walk
from dsvgraph.ops.decoding import State
from dsvgraph_torch.lowering.names import variable
from dsvgraph_torch.lowering.source import assign, expression, literal, path

if TYPE_CHECKING:
    from dsvgraph_torch.lowering.body import Writer


class Forms:
    """The variables of a graph's values: ``vars`` hold the new positions, ``past`` earlier ones in front of them."""

    def __init__(self, found: Decoding) -> None:
        self.found = found
        self.vars: dict[Ref, str] = {}
        self.past: dict[Ref, str] = {}
        self.fresh = set(_read_new(found))

    def text(self, ref: Ref, rows: bool) -> str | None:
        """The variable of a value in the form that is asked for, or in the only one there is."""
        first, second = (self.past, self.vars) if rows else (self.vars, self.past)
        return first.get(ref) or second.get(ref)

    def named(self, ref: Ref, base: str, rows: bool) -> str:
        """What a variable is called that holds ``ref`` as it is made, with ``rows`` of earlier positions or without."""
        return f"{base}_all" if rows and ref in self.fresh else base

    def bind(self, ref: Ref, name: str, rows: bool) -> None:
        (self.past if rows else self.vars)[ref] = name

    def kept_alone(self, ref: Ref) -> bool:
        """Whether ``ref`` is kept here and nobody reads the new positions alone."""
        return ref in self.found.kept and ref not in self.fresh

    def cut(self, ref: Ref, length: Size | None) -> int | None:
        """The axis at which ``ref``, made with earlier rows, is cut to the new ones, if somebody reads these."""
        needed = ref in self.past and ref not in self.vars and ref in self.fresh
        return axis(self.found.graph.type(ref), length) if needed else None


def _read_new(found: Decoding) -> list[Ref]:
    """The values that some line or output reads without earlier rows."""
    graph = found.graph
    running = [n for n in graph.nodes.values() if n.name not in graph.weight_only]
    read = [r for n in running for p, r in n.sources.items() if not found.reads_rows(n, p)]
    return read + [ref for name, ref in graph.outputs.items() if name not in found.asked]


def inputs(writer: Writer) -> list[str]:
    """Return variables for the inputs; write the lines that keep them or cut them to the new positions."""
    names = []
    for port in writer.graph.inputs:
        ref, rows = Ref(port, port), port in writer.found.given
        names.append(writer.new(writer.forms.named(ref, port, rows)))
        writer.forms.bind(ref, names[-1], rows)
    for port in writer.graph.inputs:
        settle(writer, Ref(port, port))
    return names


def settle(writer: Writer, ref: Ref, port: str = "", alias: bool = False) -> None:
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
        writer.line(assign(name, extended(writer, ref, name, path(value))))
        forms.bind(ref, name, True)


def extended(writer: Writer, ref: Ref, name: str, value: ast.expr) -> ast.expr:
    """Return a value behind what the cache holds of it for earlier positions."""
    last = writer.found.kept[ref].last
    more = {} if last is None else {"last": last}
    return expression("ctx.with_earlier(key, value, **more)", key=key(writer, name), value=value, more=more)


def key(writer: Writer, name: str) -> ast.expr:
    """Return a place in the cache; each use of shared weights has its own."""
    name = variable(name, writer.out.kept)
    writer.out.kept.add(name)
    return expression("(self, name, ctx.copy_index)" if writer.lowering.shared else "(self, name)", name=name)


def states(writer: Writer, node: Node) -> dict[str, ast.expr]:
    """Return the places in the cache of the tensors that an op carries from position to position."""
    assert node.op is not None
    found = node.op.decoding_state(node.ins, node.outputs)
    return {n: key(writer, f"{node.name}_{n}") for n, kept in found.items() if isinstance(kept, State)}


def numbered(root: Decoding) -> bool:
    """Whether lines that ask for the numbers of positions run over earlier ones too."""
    found = (one.graph.nodes[name] for one in root.all() for name in one.between)
    return any(map(_along, found))


def _along(node: Node) -> bool:
    if node.op:
        return node.op.positions.along
    inner: list[Graph] = [copies.graph for copies in node.copies]
    return any(visit.node.op is not None and visit.node.op.positions.along for graph in inner for visit in walk(graph))
