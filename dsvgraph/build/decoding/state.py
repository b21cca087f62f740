"""What decoding keeps of earlier positions: derived from the ops, at the values that `cache` chooses.

While decoding, a model computes the new positions alone. An op that looks at earlier ones (`decoding_state`)
reads some of its inputs with the rows of earlier positions in front of the new ones. Such rows are kept
where the value is made, once for all that read it; or, where a block has a list `cache`, the listed values
are kept and the lines between them and the op run over all rows again. These lines act on one position at
a time, so what they make of the kept rows is what they made before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dsvgraph.dims import Size, names
from dsvgraph.graph import Graph, Mode, Model, Node, PortRole, Ref
from dsvgraph.ops.decoding import Past, State
from dsvgraph.types import Type

ALL = Past()
Asked = frozenset[tuple[str, Past]]


class Missing(Exception):
    """An op needs earlier positions of a value that cannot be made of what is kept."""

    def __init__(self, graph: Graph, node: Node, ref: Ref) -> None:
        super().__init__(f"{node.name} needs {ref}")
        self.graph, self.node, self.ref = graph, node, ref


@dataclass(eq=False)
class Decoding:
    """How one graph decodes: which values have the rows of earlier positions, and where these come from.

    ``lines`` are those that run while decoding. ``given`` inputs arrive with the rows of earlier positions,
    ``used`` is how many of these are needed; ``kept`` values are kept here. ``between`` are the lines
    that run over all rows, ``rows`` every value that has them, ``asked`` outputs are returned with them.
    ``inner`` has the same of blocks that look at earlier positions, for each group of equal copies of a line.
    """

    graph: Graph
    lines: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    used: dict[str, Past] = field(default_factory=dict)
    kept: dict[Ref, Past] = field(default_factory=dict)
    between: dict[str, Past] = field(default_factory=dict)
    rows: dict[Ref, Past] = field(default_factory=dict)
    states: dict[tuple[str, str], State] = field(default_factory=dict)
    inner: dict[str, tuple[Decoding, ...]] = field(default_factory=dict)

    @property
    def keeping(self) -> set[str]:
        """Return names of the lines and inputs of which something is kept here."""
        return {ref.node for ref in self.kept} | {name for name, _ in self.states}

    def reads_rows(self, node: Node, port: str) -> bool:
        """Return whether a line reads what is wired to ``port`` with the rows of earlier positions."""
        if node.name in self.between:
            return True
        if node.op and node.name in self.lines:
            return isinstance(node.op.decoding_state(node.input_types, node.outputs).get(port), Past)
        return any(port in inner.given for inner in self.inner.get(node.name, ()))

    def returns_rows(self, node: Node, port: str) -> bool:
        """Return whether a line makes this output with the rows of earlier positions."""
        return node.name in self.between or any(port in inner.asked for inner in self.inner.get(node.name, ()))

    def all(self) -> Iterator[Decoding]:
        """This and all below, each once."""
        seen, left = {self}, [self]
        while left:
            yield (one := left.pop())
            fresh = dict.fromkeys(inner for found in one.inner.values() for inner in found if inner not in seen)
            seen |= fresh.keys()
            left += fresh


class Decoder:
    """Finds how graphs decode; equal questions are answered once.

    ``positions`` are the names that count rows and positions, ``length`` is the size that counts positions.
    """

    def __init__(self, positions: frozenset[str], length: Size | None) -> None:
        self.positions, self.length = positions, length
        self.memo: dict[object, Decoding] = {}
        self.single: dict[Graph, bool] = {}

    @classmethod
    def of_model(cls, model: Model) -> Decoder:
        """Return the decoder of a model, whose inputs tell which sizes count positions."""
        row = next((type_ for type_ in model.inputs.values() if type_.rank > 1), None)
        found = {name for type_ in model.inputs.values() for size in type_.shape[:2] for name in names(size)}
        return cls(frozenset(found), row.shape[1] if row else None)

    def of(
        self, graph: Graph, given: frozenset[str] = frozenset(), sealed: bool = False, asked: Asked = frozenset(),
        only: frozenset[str] | None = None,
    ) -> Decoding:  # fmt: skip
        """Return how ``graph`` decodes, ``only`` some of its lines or all.

        ``sealed`` graphs keep nothing themselves, unless they have a list `cache` and what they are ``given`` is
        not enough. Raise Missing if a value that is needed can be made of nothing that is kept.
        """
        if self.acts_alone(graph):
            given, sealed, asked = frozenset(), False, frozenset()
        key = (graph, given, sealed, asked, only)
        if key not in self.memo:
            self.memo[key] = self._found(graph, given, sealed, asked, only)
        return self.memo[key]

    def _found(
        self, graph: Graph, given: frozenset[str], sealed: bool, asked: Asked, only: frozenset[str] | None
    ) -> Decoding:
        if sealed and graph.cache:
            try:
                return _Finding(self, graph, given, sealed, only).run(asked)
            except Missing:
                return self.of(graph, given, False, asked, only)
        return _Finding(self, graph, given, sealed, only).run(asked)

    def acts_alone(self, graph: Graph) -> bool:
        """Return whether every line of ``graph`` makes a position of the same position alone."""
        if graph not in self.single:
            self.single[graph] = all(self.alone(node) for node in graph.nodes.values())
        return self.single[graph]

    def alone(self, node: Node) -> bool:
        """Return whether a line makes a position of the same position of its inputs alone."""
        if node.op:
            return not node.op.shift() and not node.op.decoding_state(node.input_types, node.outputs)
        return all(self.acts_alone(copies.graph) for copies in node.copies)

    def has_rows(self, type_: Type) -> bool:
        """Return whether a value is made of positions; a weight is not."""
        return any(names(size) & self.positions for size in type_.shape)


def axis(type_: Type, length: Size | None) -> int | None:
    """Return the axis that counts positions; none where rows are sorted in another order."""
    return next((i for i, size in enumerate(type_.own_tokens.shape) if size == length), None)


class _Finding:
    """Finds how one graph decodes."""

    def __init__(
        self, decoder: Decoder, graph: Graph, given: frozenset[str], sealed: bool, only: frozenset[str] | None
    ) -> None:
        self.decoder, self.graph, self.given, self.sealed = decoder, graph, given, sealed
        running = [n for n in graph.nodes.values() if n.name not in graph.weight_only]
        self.nodes = [n for n in running if only is None or n.name in only]
        self.free = not sealed and not graph.cache  # to keep whatever is needed
        self.ends = {Ref(p, p) for p in given} if sealed else set(graph.cache)
        self.made = set(self.ends)  # what can be had with the rows of earlier positions
        self.found = Decoding(graph, frozenset(n.name for n in self.nodes), given)
        self.wants: list[tuple[Node, Ref, Past]] = []

    def run(self, asked: Asked) -> Decoding:
        for node in self.nodes:
            self._look(node)
        for node, ref, rows in self.wants:
            self._need(node, ref, rows)
        for output, rows in asked:
            ref = self.graph.outputs[output]
            self._need(self.graph.nodes.get(ref.node) or self.nodes[0], ref, rows)
        self.found.asked = frozenset(output for output, _ in asked)
        self._follow_unordered()
        return self.found

    # -- what the lines need -----------------------------------------------------------------

    def _look(self, node: Node) -> None:
        """Note what a line needs, and whether it could run over all rows."""
        if self.decoder.alone(node):
            if all(ref in self.made or not self._has_rows(ref) for ref in node.sources.values()):
                self.made |= {Ref(node.name, port) for port in node.outputs}
        elif node.op:
            for name, kept in node.op.decoding_state(node.input_types, node.outputs).items():
                if isinstance(kept, State):
                    self.found.states[node.name, name] = kept
                else:
                    self.wants.append((node, node.inputs[name], kept))
        elif node.copies:
            self._look_inside(node)

    def _look_inside(self, node: Node) -> None:
        """What a block reads with all rows is kept out here, where it is made, if all copies read the same value."""
        shared = [p for p in node.sources if node.roles.get(p, PortRole.SHARED) is PortRole.SHARED]
        whole = {p for p in shared if self._has_rows(node.sources[p])}
        offered = frozenset(p for p in whole if self.free or node.sources[p] in self.made)
        used: dict[str, Past] = {}
        for copies in node.copies:
            for port, rows in self.decoder.of(copies.graph, offered, not self.free).used.items():
                used[port] = joined(used.get(port), rows)
        self.found.inner[node.name] = tuple(
            self.decoder.of(copies.graph, frozenset(used), not self.free) for copies in node.copies
        )
        self.wants += [(node, node.sources[port], rows) for port, rows in used.items()]

    def _has_rows(self, ref: Ref) -> bool:
        return self.decoder.has_rows(self.graph.type(ref))

    # -- where it comes from -----------------------------------------------------------------

    def _need(self, node: Node, ref: Ref, rows: Past) -> None:
        """``node`` reads ``ref`` with rows of earlier positions; raise Missing if nobody can give them."""
        if not self._has_rows(ref):
            return
        if self.free or ref in self.ends:
            self._take(ref, rows)
        elif ref in self.made:
            self._between(self.graph.nodes[ref.node], rows)
        else:
            raise Missing(self.graph, node, ref)

    def _take(self, ref: Ref, rows: Past) -> None:
        """Rows that arrive with an input, that a block below has anyway, or that are kept here."""
        found = self.found
        found.rows[ref] = rows = joined(found.rows.get(ref), rows)
        if ref.node in self.given:
            found.used[ref.node] = rows
        elif not self._ask(ref, rows):
            found.kept[ref] = rows

    def _ask(self, ref: Ref, rows: Past) -> bool:
        """Return whether the block that makes ``ref`` has its rows, and now returns them."""
        node = self.graph.nodes.get(ref.node)
        if node is None or node.op or node.mode is not Mode.CALL or node.name not in self.found.inner:
            return False
        (inner,) = self.found.inner[node.name]
        if inner.graph.outputs[ref.port] not in inner.rows:
            return False
        wanted = {o: inner.rows[inner.graph.outputs[o]] for o in inner.asked} | {ref.port: rows}
        again = self.decoder.of(inner.graph, inner.given, not self.free, frozenset(wanted.items()))
        self.found.inner[node.name] = (again,)
        return True

    def _between(self, node: Node, rows: Past) -> None:
        """``node`` runs over all rows, and so does what it reads."""
        before, rows = self.found.between.get(node.name), Past(None, rows.read)
        wider = joined(before, rows)
        if wider == before:
            return
        self.found.between[node.name] = wider
        self.found.inner.pop(node.name, None)
        self.found.rows |= {Ref(node.name, port): wider for port in node.outputs}
        for ref in node.sources.values():
            self._need(node, ref, wider)

    def _follow_unordered(self) -> None:
        """Rows that are sorted by expert cannot be cut to the new ones: what reads them runs over all rows too."""
        for node in self.nodes:
            if node.name not in self.found.between and any(map(self._unordered, node.sources.values())):
                if not all(ref in self.made or not self._has_rows(ref) for ref in node.sources.values()):
                    raise Missing(self.graph, node, next(ref for ref in node.sources.values() if ref not in self.made))
                self._between(node, ALL)

    def _unordered(self, ref: Ref) -> bool:
        return ref.node in self.found.between and axis(self.graph.type(ref), self.decoder.length) is None and (
            self._has_rows(ref)
        )  # fmt: skip


def joined(a: Past | None, b: Past) -> Past:
    """Return what is enough for two readers."""
    return b if a is None else Past(_most(a.last, b.last), _most(a.read, b.read))


def _most(a: Size | None, b: Size | None) -> Size | None:
    """Return the larger number of rows; all of them where one is all, or where it depends."""
    if a == b:
        return a
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else None


def written(graph: Graph, ref: Ref) -> str:
    """Return a reference as a spec writes it: the first output of a line by the line's name alone."""
    node = graph.nodes.get(ref.node)
    return ref.node if node is None or node.first == ref.port else str(ref)


def unneeded(found: Decoding) -> Iterator[tuple[int, Ref]]:
    """Return the items of a graph's list `cache`, by their number, that nothing below needs."""
    return ((i, ref) for i, ref in enumerate(found.graph.cache) if ref not in found.rows)
