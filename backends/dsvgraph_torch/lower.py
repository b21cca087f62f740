"""Lowering: every distinct block of a graph becomes one class of straight-line torch code."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dsvgraph.build.modules import claims
from dsvgraph.graph import Graph, Model, Node, Ref
from dsvgraph_torch import loops, ops
from dsvgraph_torch.deferred import deferred_heads
from dsvgraph_torch.names import class_names, document, reserved, variable, where
from dsvgraph_torch.ops import Code, Site
from dsvgraph_torch.parents import extended
from dsvgraph_torch.sharing import Made, Source, made, suffix
from dsvgraph_torch.source import (
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


@dataclass(frozen=True)
class Unit:
    """One class to write: a graph, alone or as ``copies`` side by side, ``whole`` or as a part of such copies."""

    graph: Graph
    copies: int = 0
    whole: bool = True


@dataclass
class Class:
    """What the writer knows of a class while it is written."""

    source: Source
    containers: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)  # addresses at or below which several lines have weights
    taken: set[str] = field(default_factory=set)


class Lowering:
    """Writes the classes of a model, callees first."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.names = class_names(model)
        self.deferred = deferred_heads(model)
        self.turns = any(n.reused for g in model.graphs() for n in g.nodes.values())
        self.balanced = any(loss.kind == "sequence_balance" for loss in model.losses)
        self.classes: list[Source] = []
        self.units: dict[Unit, int] = {}

    def unit(self, graph: Graph, copies: int = 0, whole: bool = True) -> Made:
        """What stands for the construction of a block's class, which is written on first use."""
        key = Unit(graph, copies, whole)
        if key not in self.units:
            base, name = "" if whole else "nn.Module", self.name(graph, copies, whole)
            source = Source(name, graph.name, copies, graph.args, doc=document(graph), base=base)
            Writer(self, Class(source, taken=reserved()), graph, copies).block()
            self.units[key] = len(self.classes)
            self.classes.append(source)
        return made(self.units[key])

    def name(self, graph: Graph, copies: int, whole: bool) -> str:
        """The name of a class; that of copies side by side tells them from a single one, and from other blocks."""
        if not copies:
            return self.names[graph]
        taken = {*self.names.values(), *(source.name for source in self.classes)}
        return variable(self.names[graph] + suffix(copies, whole), taken)


def shared(graph: Graph) -> set[str]:
    """Addresses in the class of ``graph`` where, or below which, another line has weights too."""
    found = Counter(claim.at for claim in claims(graph))
    steps = {".".join(at.split(".")[:i]) for at in found for i in range(1, at.count(".") + 1)}
    return {at for at, count in found.items() if count > 1 or at in steps}


class Writer:
    """Writes one graph into one class; blocks without an address are written in line."""

    def __init__(self, lowering: Lowering, out: Class, graph: Graph, copies: int = 0) -> None:
        self.lowering, self.out, self.graph, self.copies = lowering, out, graph, copies
        self.vars: dict[Ref, str] = {}
        self.prefix = ""
        self.parent: Node | None = None

    # -- the class ---------------------------------------------------------------------------

    def block(self) -> None:
        """A whole class: its inputs are arguments, its outputs are returned."""
        for name in self.graph.inputs:
            self.vars[Ref(name, name)] = self.new(name)
        args = [*self.vars.values(), self.context]
        self.out.shared = shared(self.graph)
        self.parent = None if self.copies else extended(self.graph)
        if self.parent:
            self.out.source.parent = self.lowering.unit(self.parent.runs[0].graph)
        self.nodes(self.graph.nodes.values())
        self.finish([self.value(r) for r in self.graph.outputs.values()])
        self.out.source.body = [function("def forward(self):", self.out.source.body, args)]

    def finish(self, values: list[str]) -> None:
        """Returns the outputs; a last line that only names the single output returns it itself."""
        body = self.out.source.body
        trees = [tree(v) for v in values]
        result = trees[0] if len(trees) == 1 else ast.Tuple(trees, ast.Load())
        note = ""
        match body[-1:]:
            case [ast.Assign([ast.Name(name)], value) as last] if values == [name]:
                body.pop()
                result, note = value, note_of(last)
        self.line(statement("return result", result=result), note=note)

    def nodes(self, nodes: Iterable[Node]) -> None:
        """The lines of several nodes, in order."""
        for node in nodes:
            if node.op:
                self.op(node)
            elif node.mode == "call":
                self.call(node) if node.at else self.extend_parent(node) if node is self.parent else self.inline(node)
            elif node.mode == "each":
                loops.each(self, node)
            else:
                loops.repeat(self, node)
            self.keep(node)

    def keep(self, node: Node) -> None:
        """Values that decoding keeps are joined with those of earlier tokens."""
        for ref in self.graph.cache:
            if ref.node == node.name and not node.op:
                name = self.vars[ref]
                self.line(assign(name, self.kept(name, path(name))))

    def kept(self, name: str, value: ast.expr) -> ast.expr:
        """A value with what the decoding cache holds of it; each use of shared weights has its own."""
        key = "(self, name, ctx.turn)" if self.lowering.turns else "(self, name)"
        return expression("ctx.extend(key, value)", key=expression(key, name=name), value=value)

    def extend_parent(self, node: Node) -> None:
        """The block at `.` is the class that this one extends."""
        value = expression("super().forward(*args)", args=self.arguments(node, node.runs[0].graph, {}))
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

    def unit(self, graph: Graph) -> Made:
        """What stands for a block inside of this class: side by side where this one is."""
        return self.lowering.unit(graph, self.copies, whole=not self.copies)

    def construct(self, address: str, value: ast.expr) -> None:
        """A line of the constructor: what stands at an address below self."""
        self.out.source.init.append(assign(f"self.{address}", value))

    def new(self, name: str) -> str:
        """A fresh local name."""
        fresh = variable(self.prefix + name, self.out.taken)
        self.out.taken.add(fresh)
        return fresh

    def value(self, ref: Ref) -> str:
        """The dotted name of what a reference names, or "[]"."""
        if ref in self.vars:
            return self.vars[ref]
        node = self.graph.nodes[ref.node]
        if ref.port in node.inputs:
            return self.value(node.inputs[ref.port])
        return f"{self.at(node)}.{ref.port}"

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
        """One op is one line, and a submodule where it owns weights; one that only lends them has no line."""
        site = self.site(node)
        code = ops.lower(site)
        if node.weights:
            self.own(node, site, code)
        if node.name in self.graph.lending:
            return
        target = self.targets(node)
        if any(ref.node == node.name for ref in self.graph.cache):
            code.value = self.kept(target[0], code.value)
        self.line(assign(target, code.value), node, self.shapes(node))

    def site(self, node: Node) -> Site:
        runs = node.name not in self.graph.lending
        args = {p: path(self.value(r) if runs else p) for p, r in node.inputs.items()}
        owned = {w: path(f"{self.at(node)}.{w}") for w in node.weights}
        tied = {w: path(self.value(r)) for w, r in node.tied.items()}
        whole = bool(node.at) and not node.tied and bool(node.weights) and node.at not in self.out.shared
        module = path(self.at(node)) if whole else None
        deferred = (self.graph, node.name) in self.lowering.deferred
        sent = path("sent") if self.copies else None
        turns, balanced = self.lowering.turns, self.lowering.balanced
        return Site(node, args, module, {**tied, **owned}, sent, self.copies, deferred, balanced, turns)

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
        many = len(node.outputs) > 1
        names = []
        for port in node.outputs:
            name = self.new(f"{node.name}_{port}" if many else node.name)
            self.vars[Ref(node.name, port)] = name
            names.append(name)
        return names

    # -- blocks ------------------------------------------------------------------------------

    def call(self, node: Node) -> None:
        inner = node.runs[0].graph
        self.container(node.at)
        self.construct(node.at, self.unit(inner))
        args = self.arguments(node, inner, {})
        value = expression("module(*args)", module=path(self.at(node)), args=args)
        self.line(assign(self.targets(node), value), node, self.shapes(node))

    def arguments(self, node: Node, inner: Graph, replaced: dict[str, ast.expr]) -> list[ast.expr]:
        values = [replaced.get(p) or path(self.value(node.sources[p])) for p in inner.inputs]
        return [*values, expression("Turn(ctx, i)" if node.reused and not self.copies else self.context)]

    def inline(self, node: Node) -> None:
        """A block at `.` has no module of its own: its lines stand here."""
        inner = node.runs[0].graph
        writer = Writer(self.lowering, self.out, inner, self.copies)
        writer.prefix = f"{self.prefix}{node.name}_"
        writer.vars = {Ref(p, p): self.value(node.sources[p]) for p in inner.inputs}
        writer.nodes(inner.nodes.values())
        for port, ref in inner.outputs.items():
            self.vars[Ref(node.name, port)] = writer.value(ref)


def place(node: Node) -> str:
    """The spec's line of a node: mla.yaml:24."""
    assert node.span is not None
    return where(node.span)
