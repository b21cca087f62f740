"""Writing the lines of one class: its variables, its addresses, its comments."""

from __future__ import annotations

import ast

from dsvgraph.build.decoding.state import Decoding, axis
from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Node, Ref
from dsvgraph.types import Interleaving
from dsvgraph_torch.lowering.names import variable, where
from dsvgraph_torch.lowering.sharing import Construction
from dsvgraph_torch.lowering.source import assign, expression, note_of, noted, statement, tree
from dsvgraph_torch.lowering.units import Class, Lowering


class Forms:
    """The variables of a graph's values: ``vars`` hold the new positions, ``past`` earlier ones in front of them."""

    def __init__(self, found: Decoding) -> None:
        self.found = found
        self.vars: dict[Ref, str] = {}
        self.past: dict[Ref, str] = {}
        self.fresh = set(_read_new(found))

    def text(self, ref: Ref, rows: bool) -> str | None:
        """Return the variable of a value in the form that is asked for, or in the only one there is."""
        first, second = (self.past, self.vars) if rows else (self.vars, self.past)
        return first.get(ref) or second.get(ref)

    def named(self, ref: Ref, base: str, rows: bool) -> str:
        """Return the variable that ``ref`` is computed into, with ``rows`` of earlier positions or without."""
        return f"{base}_all" if rows and ref in self.fresh else base

    def bind(self, ref: Ref, name: str, rows: bool) -> None:
        (self.past if rows else self.vars)[ref] = name

    def kept_alone(self, ref: Ref) -> bool:
        """Return whether ``ref`` is kept here and nobody reads the new positions alone."""
        return ref in self.found.kept and ref not in self.fresh

    def cut(self, ref: Ref, length: Size | None) -> int | None:
        """Return the axis at which ``ref``, made with earlier rows, is cut to the new ones, if somebody reads these."""
        needed = ref in self.past and ref not in self.vars and ref in self.fresh
        return axis(self.found.graph.type(ref), length) if needed else None


def _read_new(found: Decoding) -> list[Ref]:
    """Return the values that some line or output reads without earlier rows."""
    graph = found.graph
    running = [n for n in graph.nodes.values() if n.name not in graph.weight_only]
    read = [r for n in running for p, r in n.sources.items() if not found.reads_rows(n, p)]
    return read + [ref for name, ref in graph.outputs.items() if name not in found.asked]


class ClassWriter:
    """What the lines of a graph have in common, whatever they compute."""

    def __init__(self, lowering: Lowering, out: Class, found: Decoding, copies: int = 0) -> None:
        self.lowering, self.out, self.graph, self.copies = lowering, out, found.graph, copies
        self.found, self.forms = found, Forms(found)
        self.prefix = ""
        self.contexts: dict[Interleaving | None, str] = {}  # of rows with inserted tokens, where they are made
        self.asked: str | None = None  # the context that stands in for `ctx` in the lines that are written now

    def line(self, code: ast.stmt, node: Node | None = None, note: str = "") -> None:
        if node is not None and node.span:
            note = f"{note}  {place(node)}" if note else place(node)
        if self.asked:
            for name in ast.walk(code):
                if isinstance(name, ast.Name) and name.id == "ctx":
                    name.id = self.asked
        self.out.source.body.append(noted(code, note))

    @property
    def context(self) -> str:
        """The name of what ops ask for: the order of the tokens where copies run side by side."""
        return "sent" if self.copies else "ctx"

    def unit(self, found: Decoding) -> Construction:
        """Return what stands for a block inside of this class: side by side where this one is."""
        return self.lowering.unit(found, self.copies, whole=not self.copies)

    def construct(self, address: str, value: ast.expr) -> None:
        """A line of the constructor: what stands at an address below self."""
        self.out.source.init.append(assign(f"self.{address}", value))

    def new(self, name: str) -> str:
        """Return a fresh local name."""
        fresh = variable(self.prefix + name, self.out.taken)
        self.out.taken.add(fresh)
        return fresh

    def value(self, ref: Ref, rows: bool = False) -> str:
        """Return the dotted name of a reference's value, or "[]"; with ``rows`` of earlier positions or without."""
        if name := self.forms.text(ref, rows):
            return name
        node = self.graph.nodes[ref.node]
        if ref.port in node.inputs:
            return self.value(node.inputs[ref.port], rows)
        return f"{self.at(node)}.{ref.port}"

    def read(self, node: Node, port: str) -> ast.expr:
        """Return what a node reads."""
        return tree(self.value(node.sources[port], self.found.reads_rows(node, port)))

    def at(self, node: Node) -> str:
        """Return the dotted name of the module at a node's address."""
        return f"self.{node.at}" if node.at else "self"

    def container(self, address: str) -> None:
        """Plain modules for the steps of an address that no block fills."""
        steps = address.split(".")[:-1]
        for i in range(len(steps)):
            self.plain(".".join(steps[: i + 1]))

    def plain(self, address: str) -> None:
        """A plain module at an address that has none yet."""
        if address not in self.out.containers:
            self.out.containers.add(address)
            self.construct(address, expression("nn.Module()"))

    def shapes(self, node: Node) -> str:
        return ", ".join(str(t) for t in node.outputs.values())

    def targets(self, node: Node) -> list[str]:
        """Return fresh names of a node's outputs."""
        return [self.target(node, port) for port in node.outputs]

    def target(self, node: Node, port: str) -> str:
        """Return a fresh name of an output."""
        ref, rows = Ref(node.name, port), self.found.returns_rows(node, port)
        base = f"{node.name}_{port}" if len(node.outputs) > 1 else node.name
        name = self.new(self.forms.named(ref, base, rows))
        self.forms.bind(ref, name, rows)
        return name

    def arguments(self, node: Node, inner: Graph, replaced: dict[str, ast.expr]) -> list[ast.expr]:
        values = [replaced.get(p) or self.read(node, p) for p in inner.inputs]
        return [*values, expression("CopyContext(ctx, i)" if node.reused and not self.copies else self.context)]


def returning(body: list[ast.stmt], values: list[str]) -> list[ast.stmt]:
    """Return ``body`` and a return of ``values``; a last line that only computes the single value returns it itself."""
    match body:
        case [*before, ast.Assign([ast.Name(name)], value) as last] if values == [name]:
            return [*before, statement("return result", note_of(last), result=value)]
    trees = [tree(v) for v in values]
    result = trees[0] if len(trees) == 1 else ast.Tuple(trees, ast.Load())
    return [*body, statement("return result", result=result)]


def place(node: Node) -> str:
    """Return the spec's line of a node: mla.yaml:24."""
    assert node.span is not None
    return where(node.span)
