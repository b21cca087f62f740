"""`repeat` chains copies of a block like a scan; `each` runs copies side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsvgraph.build.line import Line, is_op
from dsvgraph.build.ports import free_names, unknown
from dsvgraph.build.scope import Scope, freeze
from dsvgraph.dims import Poly, Size
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Node, Ref, Run
from dsvgraph.ops import OPS
from dsvgraph.types import Reach, Type

if TYPE_CHECKING:
    from dsvgraph.build.body import Body

MAX_COPIES = 100_000


def build(body: Body, line: Line) -> Node:
    """The node of a line with `repeat` or `each`; raises DsvError where copies do not fit."""
    mode = "repeat" if line.repeat is not None else "each"
    raw = line.repeat if mode == "repeat" else line.each
    count = body.scope.size(raw, line.where(mode), least=0)
    if isinstance(count, int) and count > MAX_COPIES:
        raise DsvError(f"at most {MAX_COPIES:,} copies, found {count:,}", line.where(mode))
    sources, tied = _sources(body, line)
    wired = {p: body.graph.type(r) for p, r in {**sources, **tied}.items()}
    roles = _roles(body, line, mode, list(wired), list(tied))
    ins = {p: _cut(p, t, roles[p], count, line, body) for p, t in wired.items()}
    start = body.numbering.get(line.at, 0)
    body.numbering[line.at] = start + count
    runs, types = _Copies(body, line, roles, start).runs(count, ins)
    node = Node(
        line.name, line.callee, line.at, sources, {p: wired[p] for p in sources}, {},
        runs=tuple(runs) if count != 0 else (), mode=mode, count=count, start=start, tied=tied, span=line.span,
    )  # fmt: skip
    for port, type_ in types.items():
        carried = roles.get(port) == "carried"
        node.roles[port] = "carried" if carried else "stacked"
        node.outputs[port] = type_ if carried else Type((count, *type_.shape), type_.dtype)
    node.roles.update({p: r for p, r in roles.items() if p not in node.roles})
    _reaches(body.graph, node, roles)
    return node


def _sources(body: Body, line: Line) -> tuple[dict[str, Ref], dict[str, Ref]]:
    if not is_op(line.callee):
        return body.wire(line, list(body.builder.library.blocks[line.callee].model.inputs)), {}
    cls = OPS[line.callee]
    _, tied = body.attributes(line, _indexed(body.scope, 0))
    return body.wire(line, list(cls.ports), cls.variadic), tied


def _roles(body: Body, line: Line, mode: str, ports: list[str], tied: list[str]) -> dict[str, str]:
    """What happens to each input over the copies: carried, shared or sliced."""
    for key, listed in (("slice", line.slice), ("share", line.share)):
        for port in listed:
            if port not in ports:
                message, hint = unknown(f"input on `{line.callee}`", port, ports)
                raise DsvError(message, line.where(key), hint=hint)
    if mode == "each":
        return {p: "shared" if p in line.share or p in tied else "sliced" for p in ports}
    outs = _outputs(body, line, ports)
    rest = {p: "sliced" if p in line.slice else "shared" for p in ports}
    return {p: "carried" if p in outs and p not in line.slice and p not in line.share else rest[p] for p in ports}


def _outputs(body: Body, line: Line, ports: list[str]) -> list[str]:
    if is_op(line.callee):
        return ports[:1]
    out = body.builder.library.blocks[line.callee].model.out
    return list(out) if isinstance(out, dict) else ["y"]


def _cut(port: str, type_: Type, role: str, count: Size, line: Line, body: Body) -> Type:
    """The type that one copy sees of an input."""
    if role != "sliced":
        return type_
    if not type_.shape or type_.shape[0] != count:
        words = f"`{port}` is {type_}; one piece per copy needs a first axis of {count}"
        raise DsvError(words, line.span, path=body.builder.path())
    return Type(type_.shape[1:], type_.dtype)


def _indexed(scope: Scope, index: Size) -> Scope:
    return scope.extended({"index": index})


class _Copies:
    """Builds the copies of one line; equal copies are one graph."""

    def __init__(self, body: Body, line: Line, roles: dict[str, str], start: Size) -> None:
        self.body, self.line, self.roles, self.start = body, line, roles, start

    def runs(self, count: Size, ins: dict[str, Type]) -> tuple[list[Run], dict[str, Type]]:
        first, types = self.copy(0, ins)
        if not self.varying():
            return [Run(first, count)], types
        if not isinstance(count, int):
            words = "copies that differ by `index` need a number of copies"
            raise DsvError(f"{words}, `{count}` is symbolic", self.line.where("repeat"))
        runs = [Run(first, 1)]
        for i in range(1, count):
            graph, found = self.copy(i, ins)
            self.check_same(types, found)
            runs = _grown(runs, graph)
        return runs, types

    def varying(self) -> bool:
        """Whether an attribute depends on the index, or is a list that cycles."""
        raw = self.line.attributes
        if any("index" in free_names(v) for v in raw.values()):
            return True
        values = [self.body.scope.value(v, None) for k, v in raw.items() if not self.tying(k)]
        return not is_op(self.line.callee) and any(isinstance(v, list) for v in values)

    def tying(self, key: str) -> bool:
        return is_op(self.line.callee) and key not in OPS[self.line.callee].model_fields

    def copy(self, i: int, ins: dict[str, Type]) -> tuple[Graph, dict[str, Type]]:
        index = self.start + i
        scope = _indexed(self.body.scope, index)
        graph = self.op(scope, ins) if is_op(self.line.callee) else self.block(scope, index, ins)
        types = {o: graph.type(r) for o, r in graph.outputs.items()}
        for port, role in self.roles.items():
            if role == "carried" and types[port] != ins[port]:
                words = f"`{port}` is carried from copy to copy, so it must keep its type"
                raise DsvError(
                    f"{words}: {ins[port]} goes in, {types[port]} comes out",
                    self.line.span, path=self.body.builder.path(),
                )  # fmt: skip
        return graph, types

    def block(self, scope: Scope, index: Size, ins: dict[str, Type]) -> Graph:
        line = self.line
        given = {k: scope.value(v, line.where(k)) for k, v in line.attributes.items()}
        given = {**line.presets, **{k: _cycled(v, index) for k, v in given.items()}}
        return self.body.builder.call(line, given, ins)

    def op(self, scope: Scope, ins: dict[str, Type]) -> Graph:
        """One copy of an op as a graph of its own, so that only graphs are repeated."""
        op, tied = self.body.attributes(self.line, scope)
        key = (op.op, freeze(op.model_dump()), tuple(ins.items()), tuple(tied))
        return self.body.builder.shared(key, lambda: self.wrapped(op, tied, ins))

    def wrapped(self, op: Any, tied: dict[str, Ref], ins: dict[str, Type]) -> Graph:
        graph = Graph(op.op, type(op).__doc__ or "", {}, ins, span=self.line.span)
        refs = {p: Ref(p, p) for p in ins}
        own = {p: t for p, t in ins.items() if p not in tied}
        node = Node(op.op + "_", op.op, "", {p: refs[p] for p in own}, own, {}, op, span=self.line.span)
        node.tied = {p: refs[p] for p in tied}
        self.body.finish_op(node, {p: ins[p] for p in tied}, self.line)
        seen = Reach.join([graph.reach_of(r) for r in node.inputs.values()]).moved(op.shift())
        node.reach = {o: seen for o in node.outputs}
        graph.link(node)
        names = [next(iter(ins)), *list(node.outputs)[1:]]
        graph.outputs = {name: Ref(node.name, o) for name, o in zip(names, node.outputs)}
        graph.reach = {name: seen for name in graph.outputs}
        return graph

    def check_same(self, types: dict[str, Type], found: dict[str, Type]) -> None:
        for port, type_ in types.items():
            if found.get(port) != type_:
                words = f"copies must give the same types, `{port}` is {type_} and then {found.get(port)}"
                raise DsvError(words, self.line.span, path=self.body.builder.path())


def _cycled(value: Any, index: Size) -> Any:
    if not isinstance(value, list):
        return value
    if isinstance(index, Poly):
        raise DsvError(f"a list cycles by the copy's number, and `{index}` is symbolic")
    return value[index % len(value)] if value else None


def _grown(runs: list[Run], graph: Graph) -> list[Run]:
    last = runs[-1]
    if last.graph is graph:
        return [*runs[:-1], Run(graph, last.count + 1)]
    return [*runs, Run(graph, 1)]


def _reaches(graph: Graph, node: Node, roles: dict[str, str]) -> None:
    """What every output has seen after all copies, and each copy's for the stacked ones."""
    state = {p: graph.reach_of(r) for p, r in node.inputs.items()}
    node.copies = {o: [] for o in node.outputs}
    for run in node.runs:
        remaining = run.count if isinstance(run.count, int) else 2
        while remaining:
            outs = {o: run.graph.reach[o].after(state) for o in node.outputs}
            carried = {p: outs[p] for p, r in roles.items() if r == "carried"}
            settled = all(state[p] == r for p, r in carried.items())
            times = remaining if settled else 1
            for o, reach in outs.items():
                node.copies[o] += [reach] * times
            state.update(carried)
            remaining -= times
    for o in node.outputs:
        seen = node.copies[o][-1:] if roles.get(o) == "carried" else node.copies[o]
        home = [state[o]] if roles.get(o) == "carried" else []
        node.reach[o] = Reach.join(seen or home)
