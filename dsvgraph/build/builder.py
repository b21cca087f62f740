"""Calls of blocks: arguments are looked up, inputs bound, and equal calls share one graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx

from dsvgraph.build.body import Body, Poisoned
from dsvgraph.build.line import Line
from dsvgraph.build.ports import bind, unknown
from dsvgraph.build.scope import ConfigScope, Library, Scope, freeze
from dsvgraph.dims import Size
from dsvgraph.errors import DsvError, Span
from dsvgraph.graph import Graph
from dsvgraph.ops import OPS
from dsvgraph.spec import Part, Spec
from dsvgraph.types import Type

MAX_CALLS = 64  # blocks inside blocks


class Builder:
    """Builds every distinct block of a spec once."""

    def __init__(self, spec: Spec) -> None:
        self.library = Library(spec.blocks)
        self.config = ConfigScope(spec.config, self.library, spec.symbolic)
        self.memo: dict[Any, Graph | None] = {}
        self.trail: list[str] = []
        self.stack: list[str] = []
        self.positions: set[str] = set()
        self.length: Size | None = None
        self.used: set[str] = set()  # config names that some argument took
        check_recursion(spec)

    def path(self) -> str:
        """Where we are, as names of lines."""
        return " > ".join(self.trail)

    def shared(self, key: Any, make: Callable[[], Graph]) -> Graph:
        """The graph of ``key``, made once."""
        if key not in self.memo:
            self.memo[key] = None
            self.memo[key] = make()
        found = self.memo[key]
        if found is None:
            raise Poisoned  # it failed before, and that was told
        return found

    def call(self, line: Line, given: dict[str, Any], ins: dict[str, Type]) -> Graph:
        """The graph of one call of a block; raises DsvError at the line or inside the block."""
        part = self.library.blocks[line.callee]
        if line.callee in self.stack or len(self.stack) >= MAX_CALLS:
            chain = " -> ".join([*self.stack, line.callee])
            raise DsvError(f"`{line.callee}` contains itself: {chain}", line.at_key(line.key), path=self.path())
        args = self._arguments(part, line, given)
        key = (line.callee, freeze(args), tuple(ins.items()))
        return self.shared(key, lambda: self._build(part, line, args, ins))

    def _build(self, part: Part, line: Line, args: dict[str, Any], ins: dict[str, Type]) -> Graph:
        scope = Scope(args, self.library)
        bound = self._bind(part, line, ins, scope)
        graph = Graph(line.callee, part.model.doc, args, ins, span=part.key())
        self.stack.append(line.callee)
        try:
            return Body(self, graph, part, scope.extended(bound)).run()
        except DsvError as error:
            raise _called(error, line) from None
        finally:
            self.stack.pop()

    def _arguments(self, part: Part, line: Line, given: dict[str, Any]) -> dict[str, Any]:
        declared = part.model.args
        for name in given:
            if name not in declared:
                message, hint = unknown(f"argument on `{line.callee}`", name, [*declared, "at", "repeat", "each"])
                notes = [("the block is here", part.key())]
                raise DsvError(message, line.at_key(name), path=self.path(), notes=notes, hint=hint)
        args: dict[str, Any] = {}
        for name, default in declared.items():
            args[name] = self._argument(name, default, part, line, given, args)
        return args

    def _argument(
        self, name: str, default: Any, part: Part, line: Line, given: dict[str, Any], so_far: dict[str, Any]
    ) -> Any:
        if name in given:
            return given[name]
        if name in self.config.values:
            self.used.add(name)
            return self.config.get(name)
        if default is not None:
            return Scope(so_far, self.library).value(default, part.value("args", name))
        raise DsvError(
            f"`{line.callee}` needs the argument `{name}`",
            line.at_key(line.key),
            path=self.path(),
            notes=[("declared here", part.key("args", name))],
            hint=f"give `{name}` on this line or in `config`",
        )

    def _bind(self, part: Part, line: Line, ins: dict[str, Type], scope: Scope) -> dict[str, Size]:
        bound: dict[str, Size] = {}
        for port, raw in part.model.inputs.items():
            try:
                bind(raw, ins[port], scope, bound, part.value("in", port))
            except ValueError as error:
                where = line.where(line.key, port) if isinstance(line.wired, dict) else line.where(line.key)
                notes = [("declared here", part.key("in", port))]
                words = f"input `{port}` of `{line.callee}`: {error}"
                raise DsvError(words, where, path=self.path(), notes=notes) from None
        return bound

    def declared_here(self, callee: str, *path: str) -> list[tuple[str, Span | None]]:
        """A note with the place of a block's declaration."""
        part = self.library.blocks.get(callee)
        return [("declared here", part.key(*path))] if part else []


def _called(error: DsvError, line: Line) -> DsvError:
    """The error of a block's inside, with the call that led there."""
    note = (f"in `{line.callee}`, called from here", line.span)
    error.diagnostics = tuple(replace(d, notes=(*d.notes, note)) for d in error.diagnostics)
    return error


def check_recursion(spec: Spec) -> None:
    """Raises DsvError where blocks contain each other, or are called like an op."""
    calls = nx.DiGraph()
    for name, part in spec.blocks.items():
        if name in OPS:
            raise DsvError(f"`{name}` is a primitive op, so no block can be called so", part.key())
        for node, line in part.model.body.items():
            callee = next(iter(line), None)
            if callee in spec.blocks and callee not in part.model.args:
                calls.add_edge(name, callee, span=part.key("body", node))
    try:
        cycle = nx.find_cycle(calls)
    except nx.NetworkXNoCycle:
        return
    chain = " -> ".join([cycle[0][0], *(edge[1] for edge in cycle)])
    raise DsvError(f"blocks contain each other: {chain}", calls.edges[cycle[0][:2]]["span"])
