"""Calls of blocks: arguments are looked up, inputs bound, and equal calls share one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from dsvgraph.build.body import Body, Fatal, Poisoned
from dsvgraph.build.cache import BuildCache
from dsvgraph.build.line import Line
from dsvgraph.build.ports import bind, declared, misread, unknown
from dsvgraph.build.scope import At, ConfigScope, Given, Library, Scope, free_names, freeze
from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size, names
from dsvgraph.errors import DsvError, Note, Span
from dsvgraph.graph import Graph, Mode, Node
from dsvgraph.ops import OPS
from dsvgraph.ops.base import RESERVED
from dsvgraph.spec import Part, Spec
from dsvgraph.types import Type

Wired = Callable[[str, ValueError], list[Note]]

MAX_CALLS = 32  # blocks inside blocks
MAX_LINES = 4_000  # of distinct blocks, together
MAX_NODES = 20_000  # of the whole, equal copies of a line counted once
MAX_COPIES = 2_000_000  # of the whole, those inside of copies counted for each


class Builder:
    """Builds every distinct block of a spec once, or takes it from the cache that earlier builds of the spec filled."""

    def __init__(self, spec: Spec, build_cache: BuildCache | None = None) -> None:
        self.build_cache = BuildCache() if build_cache is None else build_cache
        self.library = Library(spec.blocks)
        self.config = ConfigScope(spec.config, self.library, spec.symbolic)
        self.memo: dict[Any, Graph | None] = {}
        self.trail: list[str] = []
        self.stack: list[str] = []
        self.positions: frozenset[str] = frozenset()  # sizes that are known only when the model runs
        self.lengths: tuple[Size, ...] = ()  # of rows
        self.lines = 0
        self.seen: set[Graph] = set()  # graphs whose lines are counted
        self.used: set[str] = set()  # config names that arguments took, inside of the block that is built
        if not self.build_cache.graphs:  # earlier builds of the spec have looked
            check_blocks(spec)

    def path(self) -> str:
        """Where we are, as names of lines."""
        return " > ".join(self.trail)

    def shared(self, key: Any, make: Callable[[], Graph]) -> Graph:
        """The graph of ``key``, made once."""
        if key not in self.memo:
            self.memo[key] = None
            place = (key, self.positions, self.lengths)
            self.memo[key] = self._found(place) or self._made(place, make)
        found = self.memo[key]
        if found is None:
            raise Poisoned  # it failed before, and that was told
        self.used |= self.build_cache.reads[found]
        return found

    def _found(self, place: Any) -> Graph | None:
        """What an earlier build left, with its lines counted as if they were built here."""
        found = self.build_cache.find(place, self.config.done)
        for graph in found.graphs() if found else ():
            if graph not in self.seen:
                self.seen.add(graph)
                self._count(self.build_cache.lines.get(graph, 0), graph.span)
        return found

    def _made(self, place: Any, make: Callable[[], Graph]) -> Graph:
        outer, self.used = self.used, set()
        try:
            graph = make()
            self.build_cache.store(place, graph, frozenset(self.used), self.config.done)
        finally:
            self.used |= outer
        self.seen.add(graph)
        return graph

    def counted(self, graph: Graph, span: Span | None) -> None:
        """Counts one more line of ``graph``; raises Fatal where blocks open into too many."""
        self.build_cache.lines[graph] = self.build_cache.lines.get(graph, 0) + 1
        self._count(1, span)

    def _count(self, lines: int, span: Span | None) -> None:
        self.lines += lines
        if self.lines > MAX_LINES:
            raise Fatal(f"the blocks open into more than {MAX_LINES:,} distinct lines", span, code=Code.TOO_MUCH)

    def opened(self, node: Node, graph: Graph, span: Span | None) -> None:
        """Counts what ``node`` opens into; raises Fatal where ``graph`` becomes too large to walk."""
        nodes = self.build_cache.nodes
        inner = sum(nodes.get(group.graph, 1) for group in node.stored)
        nodes[graph] = nodes.get(graph, 0) + 1 + inner
        if nodes[graph] > MAX_NODES:
            words = f"the blocks open into more than {MAX_NODES:,} nodes, equal copies counted once"
            raise Fatal(words, span, code=Code.TOO_MUCH, path=self.path())
        copies = self.build_cache.copies
        copies[graph] = copies.get(graph, 0) + _copies(node, copies)
        if copies[graph] > MAX_COPIES:
            words = f"the copies inside of copies are more than {MAX_COPIES:,} together"
            raise Fatal(words, span, code=Code.TOO_MUCH, path=self.path())

    def value(self, raw: Any, span: Span | None, scope: Scope, at: At | None = None) -> Any:
        """``raw`` as the value of an attribute or an argument: known before the model runs."""
        for name in sorted(free_names(raw)):
            size = scope.values.get(name)
            if isinstance(size, Poly) and names(size) & self.positions:
                words = f"`{name}` is known only when the model runs, here a number is needed"
                raise DsvError(words, span, code=Code.TOO_LATE, path=self.path(), notes=scope.origins(name))
        return scope.value(raw, span, at)

    def call(
        self, line: Line, given: dict[str, Any], ins: dict[str, Type], scope: Scope, wired: Wired | None = None
    ) -> Graph:
        """The graph of one call of a block; raises DsvError at the line or inside the block.

        ``wired`` tells where an input that does not fit comes from.
        """
        part = self.library.blocks[line.callee]
        if line.callee in self.stack or len(self.stack) >= MAX_CALLS:
            chain = " -> ".join([*self.stack, line.callee])
            words = f"`{line.callee}` contains itself" if line.callee in self.stack else "blocks nest too deep"
            raise DsvError(f"{words}: {chain}", line.at_key(line.key), code=Code.CALL_CIRCLE, path=self.path())
        args = self._arguments(part, line, given)
        key = (line.callee, freeze(args), tuple(ins.items()))
        if key in self.memo and self.memo[key] is None:  # an input that does not fit is this line's mistake too
            self._bind(part, line, ins, Scope(args, self.library, self._given(part, line, args, scope)), wired)
        return self.shared(key, lambda: self._build(part, line, args, ins, scope, wired))

    def _build(
        self, part: Part, line: Line, args: dict[str, Any], ins: dict[str, Type], outer: Scope, wired: Wired | None
    ) -> Graph:
        scope = Scope(args, self.library, self._given(part, line, args, outer))
        bound = self._bind(part, line, ins, scope, wired)
        graph = Graph(line.callee, part.model.doc, args, ins, span=part.key())
        self.stack.append(line.callee)
        try:
            return Body(self, graph, part, scope.extended(bound)).run()
        except DsvError as error:
            raise _called(error, line) from None
        finally:
            self.stack.pop()

    def _given(self, part: Part, line: Line, args: dict[str, Any], outer: Scope) -> dict[str, Given]:
        """Where each argument got its value: on the line, in the config, or from its default."""
        found: dict[str, Given] = {}
        own = Scope(args, self.library, found)
        for name, default in part.model.args.items():
            if name in line.attributes:
                found[name] = Given(name, line.attributes[name], line.where(name), outer)
            elif name in self.config.config and name not in line.presets:
                found[name] = Given(name, name, None, self.config)
            elif name not in line.presets:
                found[name] = Given(name, default, part.value("args", name), own)
        return found

    def _arguments(self, part: Part, line: Line, given: dict[str, Any]) -> dict[str, Any]:
        declared = part.model.args
        for name in given:
            if name not in declared:
                message, hint = unknown("argument", name, [*declared, "at", "repeat", "each"], line.callee)
                hint = misread(name, self.library) or hint
                notes = [("the block is here", part.key())]
                raise DsvError(
                    message, line.at_key(name), code=Code.NO_ATTRIBUTE, path=self.path(), notes=notes, hint=hint
                )
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
            code=Code.MISSING_ATTRIBUTE,
            path=self.path(),
            notes=[("declared here", part.key("args", name))],
            hint=f"give `{name}` on this line or in `config`",
        )

    def _bind(self, part: Part, line: Line, ins: dict[str, Type], scope: Scope, wired: Wired | None) -> dict[str, Size]:
        bound: dict[str, Size] = {}
        for port, raw in part.model.inputs.items():
            try:
                bind(raw, ins[port], scope, bound, part.value("in", port))
            except ValueError as error:
                where = line.where(line.key, port) if isinstance(line.wired, dict) else line.where(line.key)
                notes = [("declared here", part.key("in", port)), *scope.origins(declared(raw, None)[1])]
                notes = list(dict.fromkeys([*notes, *(wired(port, error) if wired else ())]))
                words = f"input `{port}` of `{line.callee}`: "
                raise DsvError.of(error, where, Code.MISFIT, words, path=self.path(), notes=notes) from None
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


def _copies(node: Node, inside: Mapping[Graph, int]) -> int:
    """How many copies a line makes, those inside of them too; a number that is open counts as one."""
    own = 0 if node.mode is Mode.CALL else 1
    counts = [(copies.graph, copies.count if isinstance(copies.count, int) else 1) for copies in node.copies]
    return sum(count * (own + inside.get(graph, 0)) for graph, count in counts)


def check_blocks(spec: Spec) -> None:
    """Raises DsvError where blocks contain each other, or have a name that is taken."""
    calls: dict[str, dict[str, Span | None]] = {}
    for name, part in spec.blocks.items():
        if name in OPS:
            raise DsvError(f"`{name}` is a primitive op, so no block can be called so", part.key(), code=Code.TAKEN)
        for arg in part.model.args:
            if arg in (*RESERVED, "index"):
                words = f"`{arg}` is a word of the language, so no argument can be called so"
                raise DsvError(words, part.key("args", arg), code=Code.TAKEN)
        for node, line in part.model.body.items():
            callee = next(iter(line), "")
            if callee in spec.blocks and callee not in part.model.args:
                calls.setdefault(name, {}).setdefault(callee, part.key("body", node))
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        chain = error.args[1][::-1]
        words = f"blocks contain each other: {' -> '.join(chain)}"
        raise DsvError(words, calls[chain[0]][chain[1]], code=Code.CALL_CIRCLE) from None
