"""A block's body becomes a graph: references are looked up, every port gets its type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dsvgraph.build import attributes, copies, horizons, mismatches, modules, rules
from dsvgraph.build.decoding.cuts import choose_cache
from dsvgraph.build.line import Line, check_inputs, is_op, take
from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import Scope
from dsvgraph.codes import Code
from dsvgraph.errors import MAX_ERRORS, DsvError, Fault, Span
from dsvgraph.graph import Copies, Graph, Node, Ref
from dsvgraph.names import nearest
from dsvgraph.ops import OPS, Op
from dsvgraph.spec import Part
from dsvgraph.types import Type, shown

if TYPE_CHECKING:
    from dsvgraph.build.builder import Builder

MAX_AXES = 8
MAX_INPUTS = 1000  # of one line


class Poisoned(Exception):
    """A line reads another that is already known to be wrong."""


class Fatal(DsvError):
    """A mistake after which nothing else is looked at."""


class Body:
    """Builds one graph line by line; mistakes are collected, what follows from them is not."""

    def __init__(self, builder: Builder, graph: Graph, part: Part, scope: Scope) -> None:
        self.builder, self.graph, self.part, self.scope = builder, graph, part, scope
        self.poisoned: set[str] = set()
        self.errors: list[DsvError] = []
        self.numbering: dict[str, Any] = {}

    def run(self) -> Graph:
        """The finished graph; raises DsvError with every independent mistake."""
        for name, raw in self.part.model.body.items():
            self.guard(name, partial(self._line, name, raw))
        self._outputs()
        choose_cache(self)
        if not self.errors:
            self.guard("at", partial(modules.check_claims, self.graph, not self.builder.stack))
        if self.errors:
            raise DsvError.collect(self.errors)
        return self.graph

    def guard(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Poisoned:
            self.poisoned.add(name)
        except Fatal:
            raise
        except DsvError as error:
            self.poisoned.add(name)
            self.errors.append(error)
            if len(self.errors) >= MAX_ERRORS:
                raise Fatal.collect(self.errors) from None

    def _line(self, name: str, raw: dict[str, Any]) -> None:
        try:
            self._add(name, raw)
        except DsvError as error:
            raise error.on_line(self.scope.config_names(list(raw.values())[1:])) from None

    def _add(self, name: str, raw: dict[str, Any]) -> None:
        """Add the node of one line; raise DsvError if the line is wrong."""
        part = Part(raw, self.part.doc, (*self.part.path, "body", name))
        self.builder.counted(self.graph, part.key())
        if name in self.graph.inputs:
            raise DsvError(f"`{name}` is already an input of this block", part.key(), code=Code.TAKEN)
        line = take(name, raw, part, self.scope)
        self.builder.trail.append(name)
        try:
            if line.repeat is not None or line.each is not None:
                node = copies.build(self, line)
            else:
                node = self._op(line) if is_op(line.callee) else self._call(line)
        finally:
            self.builder.trail.pop()
        modules.check_reads(self.graph, node, len(self.builder.stack), self.builder.path())
        self.builder.opened(node, self.graph, part.key())
        self.graph.link(node)

    # -- references -------------------------------------------------------------------------

    def ref(self, text: Any, span: Span | None) -> Ref:
        """What a reference names; raises DsvError with the nearest name."""
        if not isinstance(text, str):
            raise DsvError(
                f"`{shown(text)}` is no reference", span, code=Code.BAD_REFERENCE, hint="write name or name.port"
            )
        name, dot, port = text.partition(".")
        if name in self.poisoned:
            raise Poisoned
        if name in self.graph.inputs and not dot:
            return Ref(name, name)
        if name in self.graph.inputs:
            raise DsvError(f"`{name}` is an input, it has no ports", span, code=Code.NO_PORT, hint=f"write `{name}`")
        if name not in self.graph.nodes:
            raise self._no_such(name, span)
        node = self.graph.nodes[name]
        if not dot:
            return Ref(name, node.first)
        if port in node.outputs or port in node.weights:
            return Ref(name, port)
        if port in node.sources:
            return node.sources[port]
        message, hint = unknown("port", port, [*node.outputs, *node.weights, *node.sources], name)
        raise DsvError(message, span, code=Code.NO_PORT, hint=hint)

    def _no_such(self, name: str, span: Span | None) -> DsvError:
        known = [*self.graph.inputs, *self.graph.nodes]
        hint = nearest(name, known) or nearest(name, self.part.model.body) or unknown("", name, known)[1]
        if name in self.part.model.body:
            hint = f"`{name}` stands further down; a line reads only what is above it"
        return DsvError(
            f"there is no node or input `{name}` here", span, code=Code.NO_NODE, path=self.builder.path(), hint=hint
        )

    def wire(self, line: Line, ports: list[str], variadic: bool = False) -> dict[str, Ref]:
        """The inputs of a line by port; raises DsvError where one is missing or unknown."""
        raw = line.wired
        check_inputs(line, ports, variadic)
        if variadic and raw is not None and raw != []:
            items = raw if isinstance(raw, list) else [raw]
            if len(items) > MAX_INPUTS:
                words = f"a line has at most {MAX_INPUTS:,} inputs, found {len(items):,}"
                raise DsvError(words, line.where(line.key), code=Code.TOO_MUCH)
            return {f"x{i}": self.ref(r, line.where(line.key, i)) for i, r in enumerate(items)}
        given = raw if isinstance(raw, dict) else {ports[0]: raw or None}
        missing = [p for p in ports if p not in given or given[p] is None]
        if missing:
            raise DsvError(
                f"input `{missing[0]}` of `{line.callee}` is not wired",
                line.at_key(line.key),
                code=Code.NOT_WIRED,
                path=self.builder.path(),
                notes=self.builder.declared_here(line.callee, "in", missing[0]),
            )
        return {p: self.ref(given[p], line.where(line.key, p)) for p in ports}

    # -- ops --------------------------------------------------------------------------------

    def _op(self, line: Line) -> Node:
        cls = OPS[line.callee]
        sources = self.wire(line, list(cls.ports), cls.variadic)
        op, tied = attributes.read(self, line, self.scope)
        ins = {p: self.graph.type(r) for p, r in sources.items()}
        node = Node(line.name, line.callee, line.at, sources, ins, {}, op, tied=tied, span=line.span)
        self.finish_op(node, {p: self.graph.type(r) for p, r in tied.items()}, line)
        horizons.of_op(self.graph, node)
        return node

    def finish_op(self, node: Node, tied: dict[str, Type], line: Line) -> None:
        """Types of outputs and weights; raises DsvError where shapes do not fit."""
        op, known = node.op, {**node.ins, **tied}
        assert op is not None
        try:
            weights = op.weights(known)
            rules.check_countable(weights)
            rules.check_tied(op, weights, tied)
            modules.check_alone(op, node, weights)
            outputs = op.outputs(known)
            rules.check_positions(op, node.ins, weights, self.builder.positions, self.builder.lengths)
            order = self._order(op, node)
        except ValueError as error:
            raise mismatches.error_of(self, error, node, line) from None
        for type_ in outputs.values():
            if type_.rank > MAX_AXES:
                raise DsvError(f"a value has at most {MAX_AXES} axes, found {type_}", line.span, code=Code.AXES)
        node.outputs = {port: replace(type_, order=order) for port, type_ in outputs.items()}
        node.weights = {n: w for n, w in weights.items() if n not in tied}

    def _order(self, op: Op, node: Node) -> str:
        """The order of the rows that come out; raises ValueError where rows of two orders meet."""
        sorts, unsorts = op.positions.sorts, op.positions.unsorts
        orders = {port: type_.order for port, type_ in node.ins.items()}
        if unsorts and orders.pop(op.ports[0]) != self._token(node.inputs[unsorts]):
            words = "was not sent by this index, in this body"
            raise Fault(Code.ROW_ORDER, f"the rows of `{op.ports[0]}` cannot be brought back: it {words}")
        if len(set(orders.values())) > 1 or ((sorts or unsorts) and any(orders.values())):
            raise Fault(Code.ROW_ORDER, "rows sorted by expert meet rows in another order")
        if sorts:
            self._check_experts(op, node.inputs[sorts])
            return self._token(node.inputs[sorts])
        return "" if unsorts else next(iter(orders.values()), "")

    def _check_experts(self, op: Op, index: Ref) -> None:
        """The router that made an index, where it is in sight, chose among as many experts."""
        maker = self.graph.nodes.get(index.node)
        chosen, here = getattr(maker and maker.op, "experts", None), getattr(op, "experts", None)
        if chosen is not None and chosen != here:
            raise Fault(
                Code.INDIVISIBLE,
                f"`{index.node}` chooses among {chosen} experts, here are {here}",
                about=[chosen, here],
            )

    def _token(self, index: Ref) -> str:
        """The name of the order that sorting by ``index`` gives: unique among the bodies that are open."""
        return f"{len(self.builder.stack)}:{index}"

    # -- blocks -----------------------------------------------------------------------------

    def _call(self, line: Line) -> Node:
        part = self.builder.library.blocks[line.callee]
        sources = self.wire(line, list(part.model.inputs))
        ins = {p: self.graph.type(r) for p, r in sources.items()}
        wired = partial(mismatches.notes, self, sources)
        inner = self.builder.call(line, self.given(line, self.scope), ins, self.scope, wired)
        node = Node(line.name, line.callee, line.at, sources, ins, {}, copies=(Copies(inner, 1),), span=line.span)
        node.outputs = {o: inner.type(r) for o, r in inner.outputs.items()}
        horizons.of_call(self.graph, node)
        return node

    def given(self, line: Line, scope: Scope) -> dict[str, Any]:
        """The arguments on a line that calls a block, those of the block argument first."""
        found = {
            k: self.builder.value(v, line.where(k), scope, partial(line.where, k)) for k, v in line.attributes.items()
        }
        return {**line.presets, **found}

    # -- outputs ------------------------------------------------------------------

    def _outputs(self) -> None:
        out = self.part.model.out
        named = out if isinstance(out, dict) else {"y": out}
        if not named:
            self.errors.append(
                DsvError("`out` is empty: a block has one output or more", self.part.value("out"), code=Code.WRONG_KIND)
            )
        for name, text in named.items():
            span = self.part.value("out", name) if isinstance(out, dict) else self.part.value("out")
            self.guard("out", partial(self._output, name, text, span))

    def _output(self, name: str, text: str, span: Span | None) -> None:
        ref = self.ref(text, span)
        if self.graph.type(ref).order.startswith(f"{len(self.builder.stack)}:"):
            words = f"the rows of `{text}` are sorted by expert, so they cannot leave this body"
            raise DsvError(words, span, code=Code.ROW_ORDER, hint="bring them back with `combine`")
        self.graph.outputs[name] = ref
        self.graph.horizons[name] = self.graph.horizons_of(ref)
