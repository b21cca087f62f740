"""`repeat` chains copies of a block like a scan; `each` runs copies side by side.

`tied: true` beside `repeat` lets all copies use the weights of the first, so that a block can be
applied several times: a multi-token-prediction module for every depth (EAGLE, arXiv 2401.15077;
Megatron's mtp_use_repeated_layer), a layer for every step (Universal Transformer, arXiv 1807.03819).
It is a word of the language and no wiring, because wiring the weights of a block from outside
would need a port for each of them. The copies are equal; there is nothing else in which they
could differ but what they are given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dsvgraph.build import attributes, horizons, nodes
from dsvgraph.build.checks import modules
from dsvgraph.build.context import Context
from dsvgraph.build.line import Line, is_op
from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import Scope, free_names, freeze
from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size, names
from dsvgraph.errors import DsvError, Fault
from dsvgraph.graph import Copies, Graph, Mode, Node, PortRole, Ref
from dsvgraph.ops import OPS, Op
from dsvgraph.types import Type, shown

MAX_COPIES = 10_000


def build(context: Context, line: Line) -> Node:
    """Return the node of a line with `repeat` or `each`; raise DsvError if copies do not fit."""
    mode = Mode.REPEAT if line.repeat is not None else Mode.EACH
    if not line.at:
        hint = "copies are numbered below an address: `at: layers` gives layers.0, layers.1, ..."
        raise DsvError("copies need an address, not `.`", line.where("at"), code=Code.COPY_ADDRESS, hint=hint)
    count = _count(context, line, mode)
    sources, tied = _sources(context, line)
    wired = {p: context.graph.type(r) for p, r in {**sources, **tied}.items()}
    roles = _roles(context, line, mode, list(wired), list(tied))
    ins = {p: _cut(p, t, roles[p], count, line, context) for p, t in wired.items()}
    start = context.numbering.get(line.at, 0)
    reused = _reused(context, line, mode)
    context.numbering[line.at] = start + (1 if reused and count != 0 else count)
    groups, types = _Copies(context, line, roles, start, reused).build(count, ins)
    node = Node(
        name=line.name, callee=line.callee, at=line.at, inputs=sources,
        input_types={p: wired[p] for p in sources}, outputs={}, copies=tuple(groups) if count != 0 else (), mode=mode,
        count=count, start=start, reused=reused, tied=tied, span=line.span,
    )  # fmt: skip
    node.roles = roles | {o: PortRole.STACKED for o in types if o not in roles}
    for port, type_ in types.items():
        carried = roles.get(port) is PortRole.CARRIED
        node.outputs[port] = type_ if carried else replace(type_, shape=(count, *type_.shape))
    _check_order(node, roles, context)
    horizons.of_copies(context.graph, node)
    return node


def _count(context: Context, line: Line, mode: Mode) -> Size:
    raw, span = (line.repeat if mode is Mode.REPEAT else line.each), line.where(mode)
    context.state.value(raw, span, context.scope)
    count = context.scope.size(raw, span, least=0)
    if isinstance(count, int) and count > MAX_COPIES:
        words = f"at most {MAX_COPIES:,} copies, found {count:,}"
        raise context.scope.fault(raw, None, span, Fault(Code.COPY_COUNT, words))
    return count


def _reused(context: Context, line: Line, mode: Mode) -> bool:
    """Return whether the copies use one set of weights."""
    if line.tied is None:
        return False
    span = line.where("tied")
    value = context.state.value(line.tied, span, context.scope)
    if not isinstance(value, bool):
        fault = Fault(Code.BAD_VALUE, f"expected true or false, found `{shown(value)}`")
        raise context.scope.fault(line.tied, None, span, fault, "`tied`")
    if value and mode is Mode.EACH:
        hint = "`repeat` chains them and lets them use one set"
        raise DsvError(
            "copies side by side have weights of their own", line.at_key("tied"), code=Code.TIED_COPIES, hint=hint
        )
    return value


def _sources(context: Context, line: Line) -> tuple[dict[str, Ref], dict[str, Ref]]:
    if not is_op(line.callee):
        return context.wire(line, list(context.state.library.blocks[line.callee].model.inputs)), {}
    cls = OPS[line.callee]
    if cls.positions.sorts or cls.positions.unsorts:
        raise DsvError(
            f"`{line.callee}` stands once: its rows cannot be sorted copy by copy", line.span, code=Code.ROW_ORDER
        )
    sources = context.wire(line, list(cls.ports), cls.variadic)
    _, tied = attributes.read(context, line, _indexed(context.scope, 0))
    return sources, tied


def _roles(context: Context, line: Line, mode: Mode, ports: list[str], tied: list[str]) -> dict[str, PortRole]:
    """Return the role of each input: what `slice` and `share` say, or what follows from the block's outputs."""
    for key, given in (("slice", line.slice), ("share", line.share)):
        for i, port in enumerate(given):
            if port not in ports:
                message, hint = unknown("input", port, ports, line.callee)
                raise DsvError(message, line.where(key, i), code=Code.NO_INPUT, hint=hint)
            if port in line.slice and port in line.share:
                raise DsvError(f"`{port}` cannot be sliced and shared", line.where(key), code=Code.COPY_KEYS)
    if mode is Mode.EACH:
        unlisted = {p: PortRole.SHARED if p in tied else PortRole.SLICED for p in ports}
    else:
        outs = _outputs(context, line, ports)
        unlisted = {p: PortRole.CARRIED if p in outs else PortRole.SHARED for p in ports}
    listed = dict.fromkeys(line.slice, PortRole.SLICED) | dict.fromkeys(line.share, PortRole.SHARED)
    return unlisted | listed


def _outputs(context: Context, line: Line, ports: list[str]) -> list[str]:
    if is_op(line.callee):
        return ports[:1]
    out = context.state.library.blocks[line.callee].model.out
    return list(out) if isinstance(out, dict) else ["y"]


def _cut(port: str, type_: Type, role: PortRole, count: Size, line: Line, context: Context) -> Type:
    """Return the type that one copy sees of an input."""
    if role is not PortRole.SLICED:
        return type_
    if not type_.shape or type_.shape[0] != count:
        words = f"`{port}` is {type_}; one piece per copy needs a first axis of {count}"
        hint = f"`share: [{port}]` gives every copy the whole" if line.each is not None else ""
        raise DsvError(words, line.span, code=Code.NO_PIECE, path=context.state.path(), hint=hint)
    return replace(type_, shape=type_.shape[1:])


def _check_order(node: Node, roles: dict[str, PortRole], context: Context) -> None:
    """Rows sorted by expert stay with their expert: cut by `each`, or carried whole."""
    allowed = PortRole.SLICED if node.mode is Mode.EACH else PortRole.CARRIED
    path = context.state.path()
    sent = [port for port, type_ in node.input_types.items() if type_.order]
    if node.mode is Mode.EACH and sent and (len(node.sources) > 1 or len(node.outputs) > 1):
        words = "experts have one input and one output"
        raise DsvError(words, node.span, code=Code.NOT_LOWERED, path=path)
    whole = [port for port, ref in node.sources.items() if not context.graph.type(ref).order]
    if sent and any(roles[port] is PortRole.SLICED for port in whole):
        words = "copies inside experts cannot slice a weight, which each expert has for itself"
        raise DsvError(words, node.span, code=Code.NOT_LOWERED, path=path)
    for port, type_ in node.input_types.items():
        if type_.order and roles[port] not in (allowed, PortRole.SHARED if node.mode is Mode.REPEAT else allowed):
            raise DsvError(
                f"`{port}` is sorted by expert: only `each` cuts it", node.span, code=Code.ROW_ORDER, path=path
            )
    for port, type_ in node.outputs.items():
        if type_.order and node.mode is Mode.REPEAT and roles.get(port) is not PortRole.CARRIED:
            raise DsvError(
                f"`{port}` is sorted by expert, so it cannot be stacked", node.span, code=Code.ROW_ORDER, path=path
            )


def _indexed(scope: Scope, index: Size) -> Scope:
    return scope.extended({"index": index})


class _Copies:
    """Builds the copies of one line; equal copies are one graph."""

    def __init__(self, context: Context, line: Line, roles: dict[str, PortRole], start: Size, reused: bool) -> None:
        self.context, self.line, self.roles, self.start, self.reused = context, line, roles, start, reused

    def build(self, count: Size, ins: dict[str, Type]) -> tuple[list[Copies], dict[str, Type]]:
        first, types = self.copy(0, ins)
        if not self.varying():
            return [Copies(first, count)], types
        if not isinstance(count, int):
            words = "copies that differ by `index` need a number of copies"
            raise DsvError(f"{words}, `{count}` is symbolic", self.line.span, code=Code.COPY_COUNT, names=names(count))
        groups = [Copies(first, 1)]
        for i in range(1, count):
            self.context.state.counted(self.context.graph, self.line.span)
            graph, found = self.copy(i, ins)
            self.check_same(types, found)
            groups = _grown(groups, graph)
        if self.reused and len(groups) > 1:
            words = "copies that use one set of weights are equal, these differ by `index`"
            raise DsvError(words, self.line.at_key("tied"), code=Code.TIED_COPIES, path=self.context.state.path())
        return groups, types

    def varying(self) -> bool:
        """Return whether an attribute depends on the index, or is a list that cycles."""
        raw = self.line.attributes
        if any("index" in free_names(v) for v in raw.values()):
            return True
        return not is_op(self.line.callee) and any(
            isinstance(self.context.scope.value(v, None), list) for v in raw.values()
        )

    def copy(self, i: int, ins: dict[str, Type]) -> tuple[Graph, dict[str, Type]]:
        index = self.start + i
        scope = _indexed(self.context.scope, index)
        graph = self.op(scope, ins) if is_op(self.line.callee) else self.block(scope, index, ins)
        types = {o: graph.type(r) for o, r in graph.outputs.items()}
        for port, role in self.roles.items():
            if role is PortRole.CARRIED and types[port] != ins[port]:
                words = f"`{port}` is carried from copy to copy, so it must keep its type"
                raise DsvError(
                    f"{words}: {ins[port]} goes in, {types[port]} comes out",
                    self.line.span, code=Code.NOT_CARRIED, path=self.context.state.path(),
                    wanted=str(ins[port]), found=str(types[port]),
                )  # fmt: skip
        return graph, types

    def block(self, scope: Scope, index: Size, ins: dict[str, Type]) -> Graph:
        line = self.line
        given = {k: self.cycled(k, v, index) for k, v in self.context.given(line, scope).items()}
        return self.context.state.call(line, given, ins, scope)

    def cycled(self, key: str, value: Any, index: Size) -> Any:
        """Return the item of a list that the copy numbered ``index`` takes; other values as they are."""
        if not isinstance(value, list) or key not in self.line.attributes:
            return value
        span = self.line.where(key)
        if not value:
            raise DsvError(f"`{key}` is an empty list, so no copy can take an item", span, code=Code.CYCLE)
        if isinstance(index, Poly):
            words = f"a list cycles by the copy's number, and `{index}` is symbolic"
            raise DsvError(words, span, code=Code.CYCLE, names=names(index))
        return value[index % len(value)]

    def op(self, scope: Scope, ins: dict[str, Type]) -> Graph:
        """Return one copy of an op as a graph of its own, so that only graphs are repeated."""
        op, tied = attributes.read(self.context, self.line, scope)
        key = (self.line.part.path, freeze(op.model_dump()), tuple(ins.items()), tuple(tied))
        return self.context.state.shared(key, lambda: self.wrapped(op, tied, ins))

    def wrapped(self, op: Op, tied: dict[str, Ref], ins: dict[str, Type]) -> Graph:
        graph = Graph(op.op, type(op).__doc__ or "", {}, ins, span=self.line.span)
        own = {p: t for p, t in ins.items() if p not in tied}
        sources = {p: Ref(p, p) for p in own}
        node = Node(
            name=op.op + "_",
            callee=op.op,
            at="",
            inputs=sources,
            input_types=own,
            outputs={},
            op=op,
            span=self.line.span,
        )
        node.tied = {p: Ref(p, p) for p in tied}
        nodes.finish_op(self.context, node, {p: ins[p] for p in tied}, self.line)
        horizons.of_op(graph, node)
        modules.check_reads(graph, node, -1, self.context.state.path())
        graph.link(node)
        ports = [next(iter(ins)), *list(node.outputs)[1:]]
        graph.outputs = {port: Ref(node.name, o) for port, o in zip(ports, node.outputs, strict=True)}
        graph.horizons = {name: node.horizons[ref.port] for name, ref in graph.outputs.items()}
        return graph

    def check_same(self, types: dict[str, Type], found: dict[str, Type]) -> None:
        for port, type_ in types.items():
            if found.get(port) != type_:
                words = f"copies must give the same types, `{port}` is {type_} and then {found.get(port)}"
                raise DsvError(words, self.line.span, code=Code.NOT_CARRIED, path=self.context.state.path())


def _grown(groups: list[Copies], graph: Graph) -> list[Copies]:
    last = groups[-1]
    if last.graph is graph:
        groups[-1] = Copies(graph, last.count + 1)
    else:
        groups.append(Copies(graph, 1))
    return groups
