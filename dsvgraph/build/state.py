"""What the build of one spec shares between its blocks: names, graphs built so far, the way here, and limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dsvgraph.build.line import Line
from dsvgraph.build.scope import At, ConfigScope, Library, Scope, free_names, freeze
from dsvgraph.codes import Code
from dsvgraph.dims import Poly, Size, names
from dsvgraph.errors import DsvError, Note, Span
from dsvgraph.graph import Graph, Mode, Node
from dsvgraph.spec import Spec
from dsvgraph.types import Type

Wired = Callable[[str, ValueError], list[Note]]

MAX_LINES = 4_000  # of distinct blocks, together
MAX_NODES = 20_000  # of the whole, equal copies of a line counted once
MAX_COPIES = 2_000_000  # of the whole, those inside of copies counted for each


class Poisoned(Exception):
    """A line reads another that is already known to be wrong."""


class Fatal(DsvError):
    """A mistake after which nothing else is looked at."""


class BuildCache:
    """The built blocks of one spec, shared by builds that differ in config values only.

    The graph of a block follows from its arguments, the types of its inputs, and the config values that lines
    inside of it read as arguments: where all are equal, the graph is reused. Every build adds to the cache, so
    its owner decides how long it lives.
    """

    def __init__(self) -> None:
        self.graphs: dict[Any, dict[frozenset[str], dict[Any, Graph]]] = {}
        self.reads: dict[Graph, frozenset[str]] = {}  # config names that lines inside read
        self.nodes: dict[Graph, int] = {}  # of every graph, as `walk` visits them
        self.copies: dict[Graph, int] = {}  # of every graph, those inside of copies counted for each
        self.lines: dict[Graph, int] = {}  # of its own body

    def find(self, key: Any, config: Mapping[str, Any]) -> Graph | None:
        """Return the graph of ``key`` that was built under config values equal to these, or None."""
        for reads, graphs in self.graphs.get(key, {}).items():
            if reads <= config.keys() and (graph := graphs.get(_values(reads, config))) is not None:
                return graph
        return None

    def store(self, key: Any, graph: Graph, reads: frozenset[str], config: Mapping[str, Any]) -> None:
        """Store a graph built under these config values, of which the lines inside of it read ``reads``."""
        self.reads[graph] = reads
        self.graphs.setdefault(key, {}).setdefault(reads, {})[_values(reads, config)] = graph


class BuildState(ABC):
    """The state of one build. Every distinct block is built once, or taken from the cache of earlier builds."""

    def __init__(self, spec: Spec, cache: BuildCache | None = None) -> None:
        self.cache = BuildCache() if cache is None else cache
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

    def path(self) -> str:
        """Return where we are, as names of lines."""
        return " > ".join(self.trail)

    def shared(self, key: Any, make: Callable[[], Graph]) -> Graph:
        """Return the graph of ``key``, made once."""
        if key not in self.memo:
            self.memo[key] = None
            place = (key, self.positions, self.lengths)
            self.memo[key] = self._found(place) or self._made(place, make)
        found = self.memo[key]
        if found is None:
            raise Poisoned  # it failed before, and that was reported
        self.used |= self.cache.reads[found]
        return found

    def _found(self, place: Any) -> Graph | None:
        """Return what an earlier build left, with its lines counted as if they were built here."""
        found = self.cache.find(place, self.config.done)
        for graph in found.graphs() if found else ():
            if graph not in self.seen:
                self.seen.add(graph)
                self._count(self.cache.lines.get(graph, 0), graph.span)
        return found

    def _made(self, place: Any, make: Callable[[], Graph]) -> Graph:
        outer, self.used = self.used, set()
        try:
            graph = make()
            self.cache.store(place, graph, frozenset(self.used), self.config.done)
        finally:
            self.used |= outer
        self.seen.add(graph)
        return graph

    def counted(self, graph: Graph, span: Span | None) -> None:
        """Count one more line of ``graph``; raise Fatal if blocks open into too many."""
        self.cache.lines[graph] = self.cache.lines.get(graph, 0) + 1
        self._count(1, span)

    def _count(self, lines: int, span: Span | None) -> None:
        self.lines += lines
        if self.lines > MAX_LINES:
            raise Fatal(f"the blocks open into more than {MAX_LINES:,} distinct lines", span, code=Code.TOO_MUCH)

    def opened(self, node: Node, graph: Graph, span: Span | None) -> None:
        """Count what ``node`` opens into; raise Fatal if ``graph`` becomes too large to walk."""
        nodes = self.cache.nodes
        inner = sum(nodes.get(group.graph, 1) for group in node.stored)
        nodes[graph] = nodes.get(graph, 0) + 1 + inner
        if nodes[graph] > MAX_NODES:
            words = f"the blocks open into more than {MAX_NODES:,} nodes, equal copies counted once"
            raise Fatal(words, span, code=Code.TOO_MUCH, path=self.path())
        copies = self.cache.copies
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

    @abstractmethod
    def call(
        self, line: Line, given: dict[str, Any], ins: dict[str, Type], scope: Scope, wired: Wired | None = None
    ) -> Graph:
        """Return the graph of one call of a block; raise DsvError at the line or inside the block.

        ``wired`` gives the notes for an input that does not fit: where it comes from.
        """

    def declared_here(self, callee: str, *path: str) -> list[tuple[str, Span | None]]:
        """Return a note with the place of a block's declaration."""
        part = self.library.blocks.get(callee)
        return [("declared here", part.key(*path))] if part else []


def _copies(node: Node, inside: Mapping[Graph, int]) -> int:
    """Return how many copies a line makes, those inside of them too; a number that is open counts as one."""
    own = 0 if node.mode is Mode.CALL else 1
    counts = [(copies.graph, copies.count if isinstance(copies.count, int) else 1) for copies in node.copies]
    return sum(count * (own + inside.get(graph, 0)) for graph, count in counts)


def _values(names: Iterable[str], config: Mapping[str, Any]) -> Any:
    return tuple(freeze(config[name]) for name in names)
