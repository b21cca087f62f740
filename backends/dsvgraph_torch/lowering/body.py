"""The lines of a class: a graph as straight-line torch code."""

from __future__ import annotations

from collections.abc import Iterable

from dsvgraph.build.decoding.state import Decoding
from dsvgraph.graph import Mode, Node, Ref
from dsvgraph.types import Interleaving
from dsvgraph_torch.lowering import forms, loops
from dsvgraph_torch.lowering.analysis import base_block, inserted, shared
from dsvgraph_torch.lowering.registry import Code, Site, lower
from dsvgraph_torch.lowering.source import assign, block, expression, function, literal, path
from dsvgraph_torch.lowering.units import Class, Lowering
from dsvgraph_torch.lowering.writer import ClassWriter, returning


def write_class(lowering: Lowering, out: Class, found: Decoding, copies: int) -> None:
    """Write the lines of a graph into its class ``out``, for as many copies side by side (0: one alone)."""
    GraphWriter(lowering, out, found, copies).block()


class GraphWriter(ClassWriter):
    """Writes the lines of a graph; blocks without an address are written in line."""

    parent: Node | None = None  # the block that the class extends

    def block(self) -> None:
        """A whole class: its inputs are arguments, its outputs are returned."""
        args = [*forms.inputs(self), self.context]
        self.out.shared = shared(self.graph)
        self.parent = None if self.copies else base_block(self.graph)
        if self.parent:
            (inner,) = self.lowering.inside(self.found, self.parent)
            self.out.source.parent = self.lowering.unit(inner)
            self.out.kept |= self.lowering.kept[inner]
        self.nodes(self.graph.nodes.values())
        values = [self.value(r, name in self.found.asked) for name, r in self.graph.outputs.items()]
        self.out.source.body = [function("def forward(self):", returning(self.out.source.body, values), args)]

    def nodes(self, nodes: Iterable[Node]) -> None:
        """The lines of several nodes, in order."""
        gone = inserted(self.graph)
        for node in nodes:
            self.asked, before = self.contexts.get(_interleaving(node)), len(self.out.source.body)
            self.node(node)
            alias = not node.op and not (node.at and node.copies)  # a block in line, or no copies
            for port in node.outputs:
                forms.settle(self, Ref(node.name, port), port if len(node.outputs) > 1 else "", alias)
            self.asked = None
            if node.name in gone:
                self.left_out(node, before)

    def node(self, node: Node) -> None:
        """Write the lines of one node."""
        if node.op:
            self.op(node)
        elif node.mode is Mode.CALL:
            (self.extend_parent if node is self.parent else self.call if node.at else self.inline)(node)
        elif node.mode is Mode.EACH:
            loops.each(self, node)
        else:
            loops.repeat(self, node)

    def left_out(self, node: Node, before: int) -> None:
        """Let the lines from number ``before`` on, those of ``node``, run only where no cache is filled."""
        body = self.out.source.body
        lines, body[before:] = body[before:], []
        names = {name for port in node.outputs if (name := self.forms.vars.get(Ref(node.name, port)))}
        if lines:
            body += [assign(name, literal(None)) for name in sorted(names) if name.isidentifier()]
            body.append(block("if ctx.cache is None:", lines))

    def extend_parent(self, node: Node) -> None:
        """The block at `.` is the class that this one extends."""
        value = expression("super().forward(*args)", args=self.arguments(node, node.copies[0].graph, {}))
        self.line(assign(self.targets(node), value), node, self.shapes(node))

    def op(self, node: Node) -> None:
        """Write an op: a line unless only its weights are read, and a submodule where it owns weights."""
        site = self.site(node)
        code = lower(site)
        if node.weights:
            self.own(node, site, code)
        if node.name in self.graph.weight_only:
            return
        target, ref = self.targets(node), Ref(node.name, node.first)
        if len(target) == 1 and self.forms.kept_alone(ref) and ref not in self.forms.past:
            code.value = forms.with_earlier(self, ref, target[0], code.value)
            self.forms.bind(ref, target[0], True)
        self.line(assign(target, code.value), node, self.shapes(node))
        made = node.outputs[node.first].interleaving
        if made and not _interleaving(node):
            self.contexts[made] = self.new("rows")
            value = expression("interleaved(ctx, x, ahead)", x=path(target[0]), ahead=made.ahead)
            self.line(assign(self.contexts[made], value))

    def site(self, node: Node) -> Site:
        runs = node.name not in self.graph.weight_only
        args = {p: self.read(node, p) if runs else path(p) for p in node.inputs}
        owned = {w: path(f"{self.at(node)}.{w}") for w in node.weights}
        tied = {w: path(self.value(r)) for w, r in node.tied.items()}
        whole = bool(node.at) and not node.tied and bool(node.weights) and node.at not in self.out.shared
        module = path(self.at(node)) if whole else None
        chunked = (self.graph, node.name) in self.lowering.chunked
        sent = path("sent") if self.copies else None
        states = forms.states(self, node)
        return Site(
            node=node,
            args=args,
            module=module,
            weights={**tied, **owned},
            sent=sent,
            copies=self.copies,
            chunked=chunked,
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

    def call(self, node: Node) -> None:
        inner = node.copies[0].graph
        self.container(node.at)
        self.construct(node.at, self.unit(*self.lowering.inside(self.found, node)))
        args = self.arguments(node, inner, {})
        value = expression("module(*args)", module=path(self.at(node)), args=args)
        self.line(assign(self.targets(node), value), node, self.shapes(node))

    def inline(self, node: Node) -> None:
        """A block at `.` has no module of its own: its lines stand here."""
        (found,) = self.lowering.inside(self.found, node)
        writer = GraphWriter(self.lowering, self.out, found, self.copies)
        writer.prefix, writer.contexts = f"{self.prefix}{node.name}_", self.contexts
        for port in found.graph.inputs:
            name = self.value(node.sources[port], self.found.reads_rows(node, port))
            writer.forms.bind(Ref(port, port), name, port in found.given)
            forms.settle(writer, Ref(port, port), alias=True)
        writer.nodes(found.graph.nodes.values())
        for port, ref in found.graph.outputs.items():
            rows = self.found.returns_rows(node, port)
            self.forms.bind(Ref(node.name, port), writer.value(ref, port in found.asked), rows)


def _interleaving(node: Node) -> Interleaving | None:
    """Return the inserted tokens of the rows that a line is given."""
    return next((type_.interleaving for type_ in node.input_types.values() if type_.interleaving), None)
