"""A block's body becomes a graph: references are looked up, every port gets its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dsvgraph.build import copies, line as lines
from dsvgraph.build.line import Line
from dsvgraph.build.ports import unknown
from dsvgraph.build.scope import BlockValue, Scope, Word
from dsvgraph.dims import Size, names
from dsvgraph.errors import DsvError, Span, nearest
from dsvgraph.graph import Graph, Node, Ref, Run
from dsvgraph.ops import OPS, Op
from dsvgraph.spec import Part
from dsvgraph.types import Reach, Type, Weight

if TYPE_CHECKING:
    from dsvgraph.build.builder import Builder


class Poisoned(Exception):
    """A line reads another that is already known to be wrong."""


class Body:
    """Builds one graph line by line; mistakes are collected, what follows from them is not."""

    def __init__(self, builder: Builder, graph: Graph, part: Part, scope: Scope) -> None:
        self.builder, self.graph, self.part, self.scope = builder, graph, part, scope
        self.poisoned: set[str] = set()
        self.errors: list[DsvError] = []
        self.numbering: dict[str, Size] = {}

    def run(self) -> Graph:
        """The finished graph; raises DsvError with every independent mistake."""
        for name, raw in self.part.model.body.items():
            self._guard(name, lambda n=name, r=raw: self._line(n, r))  # type: ignore[misc]
        self._guard("out", self._outputs)
        self._guard("cache", self._cache)
        if self.errors:
            raise DsvError.collect(self.errors)
        return self.graph

    def _guard(self, name: str, action: Any) -> None:
        try:
            action()
        except Poisoned:
            self.poisoned.add(name)
        except DsvError as error:
            self.poisoned.add(name)
            self.errors.append(error)

    def _line(self, name: str, raw: dict[str, Any]) -> None:
        part = Part(raw, self.part.doc, (*self.part.path, "body", name))
        if name in self.graph.inputs:
            raise DsvError(f"`{name}` is already an input of this block", part.key())
        line = lines.take(name, raw, part, self.scope)
        self.builder.trail.append(name)
        try:
            if line.repeat is not None or line.each is not None:
                node = copies.build(self, line)
            else:
                node = self._op(line) if lines.is_op(line.callee) else self._call(line)
        finally:
            self.builder.trail.pop()
        self.graph.link(node)

    # -- references -------------------------------------------------------------------------

    def ref(self, text: Any, span: Span | None) -> Ref:
        """What a reference names; raises DsvError with the nearest name."""
        if not isinstance(text, str):
            raise DsvError(f"`{text}` is no reference", span, hint="write name or name.port")
        name, _, port = text.partition(".")
        if name in self.poisoned:
            raise Poisoned
        if name in self.graph.inputs and not port:
            return Ref(name, name)
        if name not in self.graph.nodes:
            raise self._no_such(name, span)
        node = self.graph.nodes[name]
        if not port:
            return Ref(name, node.first)
        if port in node.inputs and port not in node.outputs:  # what is carried comes out as another value
            return node.inputs[port]
        if port not in node.outputs and port not in node.weights:
            message, hint = unknown(f"port on `{name}`", port, [*node.outputs, *node.weights, *node.inputs])
            raise DsvError(message, span, hint=hint)
        return Ref(name, port)

    def _no_such(self, name: str, span: Span | None) -> DsvError:
        if name in self.part.model.body:
            hint = f"`{name}` stands further down; a line reads only what is above it"
        else:
            message, hint = unknown("node or input", name, [*self.graph.inputs, *self.graph.nodes])
            hint = hint if hint.startswith("did") else nearest(name, self.part.model.body) or hint
        return DsvError(f"there is no node or input `{name}` here", span, hint=hint)

    def wire(self, line: Line, ports: list[str], variadic: bool = False) -> dict[str, Ref]:
        """The inputs of a line by port; raises DsvError where one is missing or unknown."""
        raw = line.wired
        if variadic:
            items = raw if isinstance(raw, list) else [raw]
            return {f"x{i}": self.ref(r, line.where(line.key, i)) for i, r in enumerate(items)}
        if isinstance(raw, list):
            hint = f"write {{{ports[0]}: ..., ...}}"
            raise DsvError(f"`{line.callee}` takes its inputs by name", line.where(line.key), hint=hint)
        given = raw if isinstance(raw, dict) else {ports[0]: raw}
        for port in given:
            if port not in ports:
                message, hint = unknown(f"input on `{line.callee}`", port, ports)
                raise DsvError(message, line.part.key(line.key, port), hint=hint)
        missing = [p for p in ports if p not in given or given[p] is None]
        if missing:
            raise DsvError(
                f"input `{missing[0]}` of `{line.callee}` is not wired",
                line.at_key(line.key),
                path=self.builder.path(),
                notes=self.builder.declared_here(line.callee, "in", missing[0]),
            )
        return {p: self.ref(given[p], line.where(line.key, p)) for p in ports if p in given}

    # -- ops --------------------------------------------------------------------------------

    def _op(self, line: Line) -> Node:
        cls = OPS[line.callee]
        sources = self.wire(line, list(cls.ports), cls.variadic)
        op, tied = self.attributes(line, self.scope)
        ins = {p: self.graph.type(r) for p, r in sources.items()}
        node = Node(line.name, line.callee, line.at, sources, ins, {}, op, tied=tied, span=line.span)
        self.finish_op(node, {p: self.graph.type(r) for p, r in tied.items()}, line)
        node.reach = self._reach(node)
        return node

    def attributes(self, line: Line, scope: Scope) -> tuple[Op, dict[str, Ref]]:
        """The op with its attributes, and the weights that are wired instead of owned."""
        cls = OPS[line.callee]
        tied = {k: v for k, v in line.attributes.items() if k not in cls.model_fields}
        for key in tied:
            if key not in ("weight", "bias"):
                known = [*cls.model_fields, "at", "repeat", "each"]
                message, hint = unknown(f"attribute on `{line.callee}`", key, known)
                raise DsvError(message, line.at_key(key), hint=hint)
        raw = {k: v for k, v in line.attributes.items() if k in cls.model_fields}
        values = {k: scope.value(v, line.where(k)) for k, v in raw.items()}
        values = {**line.presets, **values}
        refs = {k: self.ref(v, line.where(k)) for k, v in tied.items()}
        return self._validated(cls, {k: _plain(v) for k, v in values.items()}, values, line, scope), refs

    def _validated(self, cls: type[Op], plain: Any, values: Any, line: Line, scope: Scope) -> Op:
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            raise DsvError.collect(
                _attribute_error(e, values, line, scope, self.builder.path()) for e in error.errors()
            ) from None

    def finish_op(self, node: Node, tied: dict[str, Type], line: Line) -> None:
        """Types of outputs and weights; raises DsvError where shapes do not fit."""
        op, known = node.op, {**node.ins, **tied}
        assert op is not None
        try:
            weights = op.weights(known)
            _check_tied(weights, tied, line.callee)
            node.outputs = op.outputs(known)
            self._check_positions(op, node.ins, weights)
        except ValueError as error:
            raise self._mismatch(error, node, line) from None
        node.weights = {n: w for n, w in weights.items() if n not in tied}

    def _mismatch(self, error: ValueError, node: Node, line: Line) -> DsvError:
        notes = [
            (f"`{port}` is {node.ins[port]}, from `{ref}`", self._origin(ref))
            for port, ref in node.inputs.items()
        ]
        return DsvError(str(error), line.span, path=self.builder.path(), notes=notes)

    def _origin(self, ref: Ref) -> Span | None:
        return self.graph.nodes[ref.node].span if ref.node in self.graph.nodes else self.part.key("in", ref.node)

    def _check_positions(self, op: Op, ins: dict[str, Type], weights: dict[str, Weight]) -> None:
        moving = self.builder.positions
        for size in op.mixed(ins):
            if names(size) & moving:
                raise ValueError(f"`{op.op}` would mix along {size}, which counts positions, not features")
        for name, weight in weights.items():
            if any(names(s) & moving for s in weight.shape):
                raise ValueError(f"the size of `{name}` would depend on the input: {weight.type}")
        first = ins.get(op.ports[0])
        if op.along and first and first.shape[1:2] != (self.builder.length,):
            raise ValueError(f"`{op.op}` looks along axis 1, which must be positions, found {first}")

    def _reach(self, node: Node) -> dict[str, Reach]:
        assert node.op is not None
        by = node.op.shift()
        seen = Reach.join([self.graph.reach_of(r) for r in node.inputs.values()])
        seen = seen.moved(by, tail=by != float("inf"))
        return {p: seen for p in node.outputs}

    # -- blocks -----------------------------------------------------------------------------

    def _call(self, line: Line) -> Node:
        part = self.builder.library.blocks[line.callee]
        sources = self.wire(line, list(part.model.inputs))
        ins = {p: self.graph.type(r) for p, r in sources.items()}
        given = {k: self.scope.value(v, line.where(k)) for k, v in line.attributes.items()}
        inner = self.builder.call(line, {**line.presets, **given}, ins)
        node = Node(line.name, line.callee, line.at, sources, ins, {}, runs=(Run(inner, 1),), span=line.span)
        node.outputs = {o: inner.type(r) for o, r in inner.outputs.items()}
        seen = {p: self.graph.reach_of(r) for p, r in sources.items()}
        node.reach = {o: inner.reach[o].after(seen) for o in inner.outputs}
        return node

    # -- outputs and cache ------------------------------------------------------------------

    def _outputs(self) -> None:
        out = self.part.model.out
        named = out if isinstance(out, dict) else {"y": out}
        for name, text in named.items():
            span = self.part.value("out", name) if isinstance(out, dict) else self.part.value("out")
            ref = self.ref(text, span)
            self.graph.outputs[name] = ref
            self.graph.reach[name] = self.graph.reach_of(ref)

    def _cache(self) -> None:
        found = [self.ref(t, self.part.value("cache", i)) for i, t in enumerate(self.part.model.cache)]
        for i, ref in enumerate(found):
            type_ = self.graph.type(ref)
            if type_.shape[1:2] != (self.builder.length,):
                words = f"`{ref}` is {type_}: decoding caches values per position, [B, T, ...]"
                raise DsvError(words, self.part.value("cache", i))
        self.graph.cache = tuple(found)


def _plain(value: Any) -> Any:
    """A value as an attribute: a word or the name of an op is a text."""
    if isinstance(value, BlockValue) and not value.presets:
        return value.name
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, Word) else value


def _check_tied(weights: dict[str, Weight], tied: dict[str, Type], callee: str) -> None:
    for name, type_ in tied.items():
        if name not in weights:
            raise ValueError(f"`{callee}` has no weight `{name}` here; it has {', '.join(weights) or 'none'}")
        if weights[name].type != type_:
            raise ValueError(f"the wired `{name}` is {type_}, expected {weights[name].type}")


def _attribute_error(error: Any, values: Any, line: Line, scope: Scope, path: str) -> DsvError:
    key = error["loc"][0] if error["loc"] else ""
    if error["type"] == "missing":
        return DsvError(f"`{line.callee}` needs the attribute `{key}`", line.at_key(line.key), path=path)
    span = line.where(*[s for s in error["loc"] if not isinstance(s, int) or s >= 0])
    value = _at(values, error["loc"])
    words = error["msg"].removeprefix("Value error, ")
    found = "null" if value is None else value
    blamed = scope.blame(value) if "literal" not in error["type"] else ""
    message = blamed or f"`{key}` of `{line.callee}`: {words[:1].lower() + words[1:]}, found `{found}`"
    hint = scope.near(value)
    if "literal" in error["type"] and isinstance(value, (Word, BlockValue)):
        hint = nearest(str(value), str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", "))
    return DsvError(message, span or line.span, path=path, hint=hint)


def _at(values: Any, loc: tuple[Any, ...]) -> Any:
    """The first word inside the guilty value, or the value."""
    value = values.get(loc[0]) if loc else None
    if isinstance(value, (list, dict)):
        items = value if isinstance(value, list) else list(value.values())
        return next((v for v in items if isinstance(v, (Word, BlockValue))), value)
    return value
