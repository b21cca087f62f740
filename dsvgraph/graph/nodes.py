"""Nodes and the graphs that they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NamedTuple

from dsvgraph.dims import Size
from dsvgraph.errors import Span
from dsvgraph.ops import Op
from dsvgraph.ops.base import Kind
from dsvgraph.types import Horizon, Horizons, Type, Weight

if TYPE_CHECKING:
    import networkx as nx


REPR = 120  # the most characters of a repr


class Ref(NamedTuple):
    """An output (or a weight) of a node; an input of the graph is a node with one port."""

    node: str
    port: str

    def __str__(self) -> str:
        return f"{self.node}.{self.port}" if self.node != self.port else self.node


class Use(NamedTuple):
    """One use of a node's value: the output that is read, the node that reads it, and the port there."""

    port: str
    reader: str
    dst: str


class Copies(NamedTuple):
    """Equal copies in a row: their one graph and how many they are."""

    graph: Graph
    count: Size  # type: ignore[assignment]  # a tuple has a method of this name


class Mode(StrEnum):
    """How often a line calls its block or op."""

    CALL = "call"  # once
    REPEAT = "repeat"  # copies one after another, each on what the one before it gives
    EACH = "each"  # copies side by side, each on its own piece of the inputs


class PortRole(StrEnum):
    """What happens to the value at a port of a line with copies."""

    CARRIED = "carried"  # goes from each copy to the next
    SHARED = "shared"  # every copy reads the same value
    SLICED = "sliced"  # every copy reads its own piece along the first axis
    STACKED = "stacked"  # the outputs of all copies, along a new first axis


@dataclass(eq=False, repr=False, kw_only=True)
class Node:
    """One line of a body. Either ``op`` is set, or ``copies`` (a plain call is one copy).

    ``at`` is the address below the enclosing path ("" adds nothing). Under ``repeat`` and ``each`` copies are numbered
    from ``start``; where they are ``reused`` they are one set of weights with the number ``start``, used ``count``
    times. ``inputs`` and ``tied`` hold what is wired into ports and weights, ``input_types`` the types of the inputs,
    ``roles`` what happens to each port of a line with copies, ``horizons`` what each output has seen, and
    ``copy_horizons`` the same for each piece of a stacked output.
    """

    name: str
    callee: str
    at: str
    inputs: dict[str, Ref]
    input_types: dict[str, Type]
    outputs: dict[str, Type]
    op: Op | None = None
    copies: tuple[Copies, ...] = ()
    mode: Mode = Mode.CALL
    count: Size = 1
    start: Size = 0
    reused: bool = False
    roles: dict[str, PortRole] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    tied: dict[str, Ref] = field(default_factory=dict)
    horizons: dict[str, Horizons] = field(default_factory=dict)
    copy_horizons: dict[str, list[Horizons]] = field(default_factory=dict)
    span: Span | None = None

    def __repr__(self) -> str:
        types = ", ".join(map(str, self.outputs.values()))
        return shorten(f"<Node {self.name}: {self.callee}({', '.join(self.sources)}) -> {types}>", REPR)

    @property
    def first(self) -> str:
        """Return the name of the first output."""
        return next(iter(self.outputs))

    @property
    def sources(self) -> dict[str, Ref]:
        """Return everything wired into the node, inputs and tied weights, by port."""
        return {**self.inputs, **self.tied}

    @property
    def carried(self) -> tuple[str, ...]:
        """Return the names of the ports whose values go from each copy to the next."""
        return tuple(port for port, role in self.roles.items() if role is PortRole.CARRIED)

    @property
    def stored(self) -> tuple[Copies, ...]:
        """Return the copies that have weights of their own: all, or the first where one set of weights is reused."""
        return tuple(Copies(copies.graph, 1) for copies in self.copies[:1]) if self.reused else self.copies

    def numbered(self) -> Iterator[tuple[str, Copies]]:
        """Yield the `stored` groups of copies, each with its numbers in a path: [3-60], or "" for a plain call."""
        start = self.start
        for group in self.stored:
            yield "" if self.mode is Mode.CALL else span_text(start, group.count), group
            start = start + group.count

    def copy_graphs(self) -> Iterator[tuple[Size, Graph]]:
        """Yield each copy's number in its address, and its graph. Assume that the counts are numbers.

        Copies that use one set of weights have the same number.
        """
        number = self.start
        for copies in self.copies:
            for _ in range(int(copies.count)):  # type: ignore[arg-type]
                yield number, copies.graph
                number = number if self.reused else number + 1

    def segment(self, number: Size) -> str:
        """Return the address of the copy ``number`` below the enclosing path."""
        return self.at if self.mode is Mode.CALL else join(self.at, str(number))


@dataclass(eq=False, repr=False)
class Graph:
    """A block with its arguments and input types filled in. Equal calls share one object.

    >>> import dsvgraph
    >>> list(dsvgraph.load("deepseek_v3_tiny").nodes)
    ['embed', 'dense', 'sparse', 'norm', 'lm_head', 'mtp']
    """

    name: str
    doc: str
    args: Mapping[str, Any]
    inputs: dict[str, Type]
    nodes: dict[str, Node] = field(default_factory=dict)
    outputs: dict[str, Ref] = field(default_factory=dict)
    cache: tuple[Ref, ...] = ()
    horizons: dict[str, Horizons] = field(default_factory=dict)
    span: Span | None = None

    def __repr__(self) -> str:
        ports = f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"
        return shorten(f"<{type(self).__name__} {self.name}: {len(self.nodes)} nodes, {ports}>", REPR)

    def __str__(self) -> str:
        """Return every line of the graph and of what is below it, with its types: the text of `signature`."""
        from dsvgraph.graph.signature import signature

        return signature(self).rstrip("\n")

    @cached_property
    def net(self) -> nx.MultiDiGraph[str]:
        """Return the body for networkx: nodes and inputs by name, edges with ports ``src`` and ``dst`` and a ``type``.

        Made on first use, because importing networkx takes longer than checking a model.
        """
        import networkx as nx

        net: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for node in self.nodes.values():
            net.add_node(node.name, node=node)
            for port, ref in node.sources.items():
                net.add_edge(ref.node, node.name, src=ref.port, dst=port, type=self.type(ref))
        return net

    @cached_property
    def uses(self) -> dict[str, list[Use]]:
        """Return the uses of every node and input by name, in the order of the body."""
        found: dict[str, list[Use]] = {}
        for node in self.nodes.values():
            for port, ref in node.sources.items():
                found.setdefault(ref.node, []).append(Use(ref.port, node.name, port))
        return found

    @cached_property
    def weight_only(self) -> frozenset[str]:
        """Return the names of the ops of which only the weights are read, so that they do not run.

        An op of which nothing at all is read does run (with a warning), and so does a router, which counts tokens.
        """
        found: set[str] = set()
        given = {*self.outputs.values(), *self.cache}
        for node in reversed(self.nodes.values()):
            uses = self.uses.get(node.name, ())
            values = any(use.port in node.outputs and use.reader not in found for use in uses)
            read = bool(uses) or any(ref.node == node.name for ref in given)
            if read and not values and given.isdisjoint(Ref(node.name, port) for port in node.outputs):
                found |= {node.name} if node.op and node.op.kind is not Kind.ROUTING else set()
        return frozenset(found)

    def type(self, ref: Ref) -> Type:
        """Return the type of what ``ref`` names."""
        if ref.node in self.inputs:
            return self.inputs[ref.node]
        node = self.nodes[ref.node]
        if ref.port in node.outputs:
            return node.outputs[ref.port]
        return node.weights[ref.port].type if ref.port in node.weights else node.input_types[ref.port]

    def horizons_of(self, ref: Ref) -> Horizons:
        """Return what ``ref`` has seen, in terms of this graph's inputs."""
        if ref.node in self.inputs:
            return Horizons({ref.node: Horizon()})
        return self.nodes[ref.node].horizons.get(ref.port, Horizons())

    def link(self, node: Node) -> None:
        """Add ``node`` and the edges into it."""
        self.nodes[node.name] = node
        self.__dict__.pop("net", None)
        self.__dict__.pop("uses", None)
        self.__dict__.pop("weight_only", None)

    def needed(self, outputs: Iterable[str]) -> set[str]:
        """Return the names of the nodes and inputs that the named outputs depend on."""
        return self.behind(self.outputs[o] for o in outputs)

    def behind(self, ends: Iterable[Ref]) -> set[str]:
        """Return the names of the nodes and inputs that ``ends`` depend on, their own among them."""
        found: set[str] = set()
        left = [end.node for end in ends]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += [ref.node for ref in self.nodes[name].sources.values()] if name in self.nodes else []
        return found

    def graphs(self) -> dict[Graph, None]:
        """Return this graph and all graphs below it, each once, callees first."""
        found: dict[Graph, None] = {}
        for node in self.nodes.values():
            for copies in node.copies:
                found.update(copies.graph.graphs())
        found[self] = None
        return found


class Visit(NamedTuple):
    """One node of a model, once for all its equal copies."""

    path: str
    node: Node
    copies: Size


def walk(graph: Graph, prefix: str = "", copies: Size = 1) -> Iterator[Visit]:
    """Yield every node below ``graph``, callers before callees, once for all equal copies.

    Copies are those that have weights of their own, however often these are used.

    The numbers of equal copies are written as a range: ``model.layers.[3-60].mlp``.
    """
    # No generator in a generator, where each level would pass on every visit of those below.
    open_ = [(iter(graph.nodes.values()), prefix, copies)]
    while open_:
        nodes, prefix, copies = open_[-1]
        node = next(nodes, None)
        if node is None:
            open_.pop()
            continue
        path = join(prefix, node.at)
        yield Visit(path, node, copies)
        below = [
            (iter(g.graph.nodes.values()), join(path, numbers), copies * g.count) for numbers, g in node.numbered()
        ]
        open_ += reversed(below)


def join(*parts: str) -> str:
    """Return the path of the parts that are not empty."""
    return ".".join(filter(None, parts))


def span_text(start: Size, count: Size) -> str:
    """Return the numbers of ``count`` copies from ``start`` as a path has them: [3-60]."""
    if isinstance(count, int) and count == 1:
        return f"[{start}]"
    return f"[{start}-{start + count - 1}]"
