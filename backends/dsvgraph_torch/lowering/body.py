"""The lines of a class: a graph as straight-line torch code."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsvgraph.build.decoding.state import Decoding
from dsvgraph.build.modules import claims
from dsvgraph.graph import Graph, Mode, Node, Ref
from dsvgraph_torch.lowering import forms, loops, ops
from dsvgraph_torch.lowering.bases import extended
from dsvgraph_torch.lowering.forms import Forms
from dsvgraph_torch.lowering.names import variable, where
from dsvgraph_torch.lowering.ops import Code, Site
from dsvgraph_torch.lowering.sharing import Made, Source
from dsvgraph_torch.lowering.source import (
    assign,
    expression,
    function,
    literal,
    note_of,
    noted,
    path,
    statement,
    tree,
)

if TYPE_CHECKING:
    from dsvgraph_torch.lowering.units import Lowering


@dataclass
class Class:
    """What the writer knows of a class while it is written; ``kept`` are the names of what decoding keeps."""

    source: Source
    kept: set[str] = field(default_factory=set)
    containers: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)  # addresses at or below which several lines have weights
    taken: set[str] = field(default_factory=set)


def shared(graph: Graph) -> set[str]:
    """Addresses in the class of ``graph`` where, or below which, another line has weights too."""
    found = Counter(claim.at for claim in claims(graph))
    steps = {".".join(at.split(".")[:i]) for at in found for i in range(1, at.count(".") + 1)}
    return {at for at, count in found.items() if count > 1 or at in steps}


class Writer:
    """Writes one graph into one class; blocks without an address are written in line."""

    def __init__(self, lowering: Lowering, out: Class, found: Decoding, copies: int = 0) -> None:
        self.lowering, self.out, self.graph, self.copies = lowering, out, found.graph, copies
        self.found, self.forms = found, Forms(found)
        self.prefix = ""
        self.parent: Node | None = None

    # -- the class ---------------------------------------------------------------------------

    def block(self) -> None:
        """A whole class: its inputs are arguments, its outputs are returned."""
        args = [*forms.inputs(self), self.context]
        self.out.shared = shared(self.graph)
        self.parent = None if self.copies else extended(self.graph)
        if self.parent:
            (inner,) = self.lowering.inside(self.found, self.parent)
            self.out.source.parent = self.lowering.unit(inner)
            self.out.kept |= self.lowering.kept[inner]
        self.nodes(self.graph.nodes.values())
        values = [self.value(r, name in self.found.asked) for name, r in self.graph.outputs.items()]
        self.out.source.body = [function("def forward(self):", returning(self.out.source.body, values), args)]

    def nodes(self, nodes: Iterable[Node]) -> None:
        """The lines of several nodes, in order."""
        for node in nodes:
            if node.op:
                self.op(node)
            elif node.mode is Mode.CALL:
                (self.extend_parent if node is self.parent else self.call if node.at else self.inline)(node)
            elif node.mode is Mode.EACH:
                loops.each(self, node)
            else:
                loops.repeat(self, node)
            alias = not node.op and not (node.at and node.copies)  # a block in line, or no copies
            for port in node.outputs:
                forms.settle(self, Ref(node.name, port), port if len(node.outputs) > 1 else "", alias)

    def extend_parent(self, node: Node) -> None:
        """The block at `.` is the class that this one extends."""
        value = expression("super().forward(*args)", args=self.arguments(node, node.copies[0].graph, {}))
        self.line(assign(self.targets(node), value), node, self.shapes(node))

    # -- lines -------------------------------------------------------------------------------

    def line(self, code: ast.stmt, node: Node | None = None, note: str = "") -> None:
        if node is not None and node.span:
            note = f"{note}  {place(node)}" if note else place(node)
        self.out.source.body.append(noted(code, note))

    @property
    def context(self) -> str:
        """The name of what ops ask for: the order of the tokens where copies run side by side."""
        return "sent" if self.copies else "ctx"

    def unit(self, found: Decoding) -> Made:
        """What stands for a block inside of this class: side by side where this one is."""
        return self.lowering.unit(found, self.copies, whole=not self.copies)

    def construct(self, address: str, value: ast.expr) -> None:
        """A line of the constructor: what stands at an address below self."""
        self.out.source.init.append(assign(f"self.{address}", value))

    def new(self, name: str) -> str:
        """A fresh local name."""
        fresh = variable(self.prefix + name, self.out.taken)
        self.out.taken.add(fresh)
        return fresh

    def value(self, ref: Ref, rows: bool = False) -> str:
        """The dotted name of what a reference names, or "[]"; with the ``rows`` of earlier positions or without."""
        if name := self.forms.text(ref, rows):
            return name
        node = self.graph.nodes[ref.node]
        if ref.port in node.inputs:
            return self.value(node.inputs[ref.port], rows)
        return f"{self.at(node)}.{ref.port}"

    def read(self, node: Node, port: str) -> ast.expr:
        """What a node reads."""
        return path(self.value(node.sources[port], self.found.reads_rows(node, port)))

    def at(self, node: Node) -> str:
        """The dotted name of the module at a node's address."""
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

    # -- ops ---------------------------------------------------------------------------------

    def op(self, node: Node) -> None:
        """Write an op: a line unless only its weights are read, and a submodule where it owns weights."""
        site = self.site(node)
        code = ops.lower(site)
        if node.weights:
            self.own(node, site, code)
        if node.name in self.graph.weight_only:
            return
        target, ref = self.targets(node), Ref(node.name, node.first)
        if len(target) == 1 and self.forms.kept_alone(ref) and ref not in self.forms.past:
            code.value = forms.extended(self, ref, target[0], code.value)
            self.forms.bind(ref, target[0], True)
        self.line(assign(target, code.value), node, self.shapes(node))

    def site(self, node: Node) -> Site:
        runs = node.name not in self.graph.weight_only
        args = {p: self.read(node, p) if runs else path(p) for p in node.inputs}
        owned = {w: path(f"{self.at(node)}.{w}") for w in node.weights}
        tied = {w: path(self.value(r)) for w, r in node.tied.items()}
        whole = bool(node.at) and not node.tied and bool(node.weights) and node.at not in self.out.shared
        module = path(self.at(node)) if whole else None
        deferred = (self.graph, node.name) in self.lowering.deferred
        sent = path("sent") if self.copies else None
        states = forms.states(self, node)
        return Site(
            node=node,
            args=args,
            module=module,
            weights={**tied, **owned},
            sent=sent,
            copies=self.copies,
            deferred=deferred,
            balanced=self.lowering.balanced,
            filled=self.lowering.filled,
            shared=self.lowering.shared,
            states=states,
        )

    def own(self, node: Node, site: Site, code: Code) -> None:
        """The submodule, or the bare weights, that a node owns."""
        if node.at:
            self.container(node.at)
        if code.module and site.module:
            self.construct(node.at, code.module)
            return
        if node.at:
            self.plain(node.at)
        for name, weight in node.weights.items():
            shape = [literal(s) for s in ((self.copies,) if self.copies else ()) + weight.shape]
            value = expression("nn.Parameter(torch.empty(*shape))", shape=shape)
            self.out.source.init.append(assign(f"{self.at(node)}.{name}", value))

    def targets(self, node: Node) -> list[str]:
        """Fresh names of a node's outputs."""
        return [self.target(node, port) for port in node.outputs]

    def target(self, node: Node, port: str) -> str:
        """A fresh name of an output."""
        ref, rows = Ref(node.name, port), self.found.returns_rows(node, port)
        base = f"{node.name}_{port}" if len(node.outputs) > 1 else node.name
        name = self.new(self.forms.named(ref, base, rows))
        self.forms.bind(ref, name, rows)
        return name

    # -- blocks ------------------------------------------------------------------------------

    def call(self, node: Node) -> None:
        inner = node.copies[0].graph
        self.container(node.at)
        self.construct(node.at, self.unit(*self.lowering.inside(self.found, node)))
        args = self.arguments(node, inner, {})
        value = expression("module(*args)", module=path(self.at(node)), args=args)
        self.line(assign(self.targets(node), value), node, self.shapes(node))

    def arguments(self, node: Node, inner: Graph, replaced: dict[str, ast.expr]) -> list[ast.expr]:
        values = [replaced.get(p) or self.read(node, p) for p in inner.inputs]
        return [*values, expression("CopyContext(ctx, i)" if node.reused and not self.copies else self.context)]

    def inline(self, node: Node) -> None:
        """A block at `.` has no module of its own: its lines stand here."""
        (found,) = self.lowering.inside(self.found, node)
        writer = Writer(self.lowering, self.out, found, self.copies)
        writer.prefix = f"{self.prefix}{node.name}_"
        for port in found.graph.inputs:
            name = self.value(node.sources[port], self.found.reads_rows(node, port))
            writer.forms.bind(Ref(port, port), name, port in found.given)
            forms.settle(writer, Ref(port, port), alias=True)
        writer.nodes(found.graph.nodes.values())
        for port, ref in found.graph.outputs.items():
            rows = self.found.returns_rows(node, port)
            self.forms.bind(Ref(node.name, port), writer.value(ref, port in found.asked), rows)


def returning(body: list[ast.stmt], values: list[str]) -> list[ast.stmt]:
    """Return ``body`` and a return of ``values``; a last line that only computes the single value returns it itself."""
    match body:
        case [*before, ast.Assign([ast.Name(name)], value) as last] if values == [name]:
            return [*before, statement("return result", note_of(last), result=value)]
    trees = [tree(v) for v in values]
    result = trees[0] if len(trees) == 1 else ast.Tuple(trees, ast.Load())
    return [*body, statement("return result", result=result)]


def place(node: Node) -> str:
    """The spec's line of a node: mla.yaml:24."""
    assert node.span is not None
    return where(node.span)
