"""Merge nodes into the card of a neighbour: a split on what it cuts, a concat and its norms on their reader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dsvgraph.graph import Graph, Node, Ref
from dsvgraph.ops.base import Drawn, Kind, Merge
from dsvgraph_graphviz.model.layers import is_product
from dsvgraph_graphviz.style.cards import Cell
from dsvgraph_graphviz.style.markup import as_id
from dsvgraph_graphviz.style.words import cut, features, number, op_title

WIDE, DRAWN = 24, 12  # values that enter or leave a card; of more the first ones are drawn


@dataclass(kw_only=True)
class InputCell(Cell):
    """The cell of a value that comes in: what is wired into it, the name of the value, and a norm drawn in the cell."""

    ref: Ref
    name: str = ""
    norm: Node | None = None


@dataclass
class MergedNode:
    """A node with the nodes drawn on its card: values enter by the cells ``below`` and leave by those ``above``."""

    node: Node
    concat: Node | None = None
    split: Node | None = None
    below: list[InputCell] = field(default_factory=list)
    above: list[Cell] = field(default_factory=list)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes that the card is the box of, its own first."""
        others = (self.split, self.concat, *(cell.norm for cell in self.below))
        return (self.node, *(node for node in others if node is not None and node is not self.node))

    @property
    def wide(self) -> bool:
        """Whether so many values enter that the card shows the first ones and their number."""
        return len(set((self.concat or self.node).inputs.values())) > WIDE

    @property
    def drawn(self) -> dict[str, Ref]:
        """The inputs that are drawn, by port: each value once, and the first ones of many."""
        first = {ref: port for port, ref in reversed(self.inputs.items())}
        ports = [port for port, ref in self.inputs.items() if self.below or first[ref] == port]
        return {port: self.inputs[port] for port in (ports[:DRAWN] if self.wide else ports)}

    def times(self, ref: Ref) -> int:
        """Return how often a value enters by the line that is drawn for it."""
        return 1 if self.below else sum(other == ref for other in self.inputs.values())

    @property
    def last(self) -> Node:
        """The node whose outputs leave the card."""
        return self.split or self.node

    @property
    def joined(self) -> str:
        """The values of a concat in its order: [a; b]."""
        names = {c.port: c.name for c in self.below}
        shown = [names[p] for p in self.concat.inputs if p in names] if self.concat else []
        return f"[{'; '.join([*shown, *['…'] * self.wide])}]" if self.concat else ""

    @property
    def inputs(self) -> dict[str, Ref]:
        """What is wired into the card, by port."""
        if self.wide:
            return (self.concat or self.node).inputs
        return {c.port: c.ref for c in self.below} or self.node.inputs


def out_port(output: str) -> str:
    """Return the cell that an output leaves from; inputs may have the same name."""
    return f"{as_id(output)}-out"


def merged_nodes(graph: Graph, cached: Iterable[Ref] = ()) -> list[MergedNode]:
    """Return the cards of a body in its order, each with what it takes in; ``cached`` values stay apart."""
    kept = {ref.node for ref in (*graph.outputs.values(), *cached)}
    inner: set[str] = set()
    across, steps = positions(graph), Steps(graph)
    cards = []
    for node in reversed(graph.nodes.values()):  # readers first
        if node.name not in inner:
            cards.append(_card(graph, node, kept, inner))
            _untangle(graph, cards[-1], across, steps)
    return cards[::-1]


def positions(graph: Graph) -> dict[str, float]:
    """Return how far to the right the readers of each node want it: an op takes named inputs from left to right."""
    found: dict[str, float] = {}
    for name in reversed(graph.nodes):
        found[name] = _mean(
            [_wanted(graph, reader, edge["dst"], found) for _, reader, edge in graph.net.out_edges(name, data=True)]
        )
    return found


def _wanted(graph: Graph, reader: str, port: str, found: dict[str, float]) -> float:
    node = graph.nodes[reader]
    ports = list(node.inputs)
    if not node.op or node.op.variadic or port not in ports:
        return found[reader]
    return found[reader] + entries(graph, node).index(port) - (len(ports) - 1) / 2


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0


class Steps:
    """How many nodes lie on the longest path before each node, and after it."""

    def __init__(self, graph: Graph) -> None:
        net = graph.net
        self.before: dict[str, int] = {}
        self.after: dict[str, int] = {}
        for name in graph.nodes:
            self.before[name] = max((self.before.get(n, 0) + 1 for n in net.predecessors(name)), default=0)
        for name in reversed(graph.nodes):
            self.after[name] = max((self.after[n] + 1 for n in net.successors(name)), default=0)


def _untangle(graph: Graph, card: MergedNode, across: dict[str, float], steps: Steps) -> None:
    """Order the cells whose order is free so that fewer lines cross; a concat gives its own in words.

    Of values that part and meet again, the longer way goes on the left: a line's words stand on its right.
    """
    if card.last.op and (len(card.last.outputs) > 1 or card.split):
        places = _places(graph, card.last, across, steps)
        card.above = sorted(_leaving(graph, card.last), key=lambda c: places.get(c.port, (0, 0)))
    if card.concat:
        sources = {c.port: c.ref.node for c in card.below}
        card.below.sort(key=lambda c: (across.get(sources[c.port], 0), -steps.before.get(sources[c.port], 0)))


def _leaving(graph: Graph, node: Node) -> list[Cell]:
    found = [Cell(out_port(output), f"{cut(output)} {features(type_.shape)}") for output, type_ in node.outputs.items()]
    return found if len(found) <= WIDE else [*found[:DRAWN], Cell("more", f"{number(len(found) - DRAWN)} more")]


def _places(graph: Graph, node: Node, across: dict[str, float], steps: Steps) -> dict[str, tuple[float, int]]:
    """Return how far to the right the readers of each output want it, and how long its way is."""
    edges: dict[str, list[tuple[str, str]]] = {}
    for _, reader, edge in graph.net.out_edges(node.name, data=True):
        edges.setdefault(out_port(edge["src"]), []).append((reader, edge["dst"]))
    return {
        port: (
            _mean([_wanted(graph, reader, entry, across) for reader, entry in found]),
            -max(steps.after[reader] for reader, _ in found),
        )
        for port, found in edges.items()
    }


def _card(graph: Graph, node: Node, kept: set[str], inner: set[str]) -> MergedNode:
    card = _with_split(graph, node, kept) if may_merge(node, Merge.SOURCE) else MergedNode(node)
    inner.add(card.node.name)
    card.concat = _concat(graph, card.node, kept)
    if card.concat:
        inner.add(card.concat.name)
        ports = list(card.concat.inputs.items())
        kept = kept | {ref.node for _, ref in ports} if card.wide else kept
        ports = ports[:DRAWN] if card.wide else ports
        card.below = [_joined(graph, card.concat, p, r, kept, inner) for p, r in ports]
    elif card.node.op and not card.node.op.variadic and len(card.node.inputs) > 1:
        card.below = [InputCell(port, port, ref=card.node.inputs[port]) for port in entries(graph, card.node)]
    return card


def entries(graph: Graph, node: Node) -> list[str]:
    """Return the inputs of an op from left to right so that few lines cross: what was made last comes straight from
    below, what enters the body passes on the right, the values of one node on the left."""
    made = {name: i for i, name in enumerate(graph.nodes)}
    sources = {port: ref.node for port, ref in node.inputs.items()}
    ports = sorted(sources, key=lambda port: sources[port] not in made)
    last = max(ports, key=lambda port: made.get(sources[port], -1))
    if len(ports) < 3:
        return ports
    ports.remove(last)
    if len(others := {sources[port] for port in ports}) < len(ports) and others <= made.keys():
        return [*sorted(ports, key=lambda port: -_first_read(graph, node.inputs[port], made)), last]
    return [*ports[: len(ports) // 2], last, *ports[len(ports) // 2 :]]


def _first_read(graph: Graph, ref: Ref, made: dict[str, int]) -> int:
    return min(made[reader] for _, reader, edge in graph.net.out_edges(ref.node, data=True) if edge["src"] == ref.port)


def single(graph: Graph, node: Node) -> MergedNode:
    """Return the card of one node alone."""
    card = _card(graph, node, set(graph.nodes), set())
    _untangle(graph, card, positions(graph), Steps(graph))
    return card


def _with_split(graph: Graph, node: Node, kept: set[str]) -> MergedNode:
    source = _only_for(graph, _input(node), node, kept)
    return MergedNode(source if source is not None and is_product(source) else node, split=node)


def _concat(graph: Graph, node: Node, kept: set[str]) -> Node | None:
    if may_merge(node, Merge.READER):
        return node
    source = _only_for(graph, _input(node), node, kept) if is_product(node) and len(node.inputs) == 1 else None
    return source if source is not None and may_merge(source, Merge.READER) else None


def _joined(graph: Graph, concat: Node, port: str, ref: Ref, kept: set[str], inner: set[str]) -> InputCell:
    """Return a cell for one joined value; a norm that is only for it is drawn in it."""
    source = _only_for(graph, ref, concat, kept)
    if source is None or not may_merge(source, Merge.CELL):
        name = value_name(graph, ref)
        text = f"{name} {number(graph.type(ref).shape[-1])}"
        return InputCell(port, text, turned(graph, ref), ref=ref, name=name)
    inner.add(source.name)
    behind = _input(source)
    return InputCell(port, f"{op_title(source)} {behind.node}", ref=behind, name=behind.node, norm=source)


def value_name(graph: Graph, ref: Ref) -> str:
    """Return what a value is called: a part of a split by its port, others by their line."""
    node = graph.nodes.get(ref.node)
    return ref.port if node is not None and may_merge(node, Merge.SOURCE) else ref.node


def turned(graph: Graph, ref: Ref) -> bool:
    """Return whether a value has been encoded by its position, perhaps spread over heads since."""
    node = graph.nodes.get(ref.node)
    while node is not None and node.op and node.op.drawn == Drawn(view=True):
        node = graph.nodes.get(_input(node).node)
    return node is not None and node.op is not None and node.op.kind is Kind.POSITION


def may_merge(node: Node, where: Merge) -> bool:
    """Return whether a node is an op that may be drawn ``where``."""
    return node.op is not None and node.op.drawn.merge is where


def _input(node: Node) -> Ref:
    return next(iter(node.inputs.values()))


def _only_for(graph: Graph, ref: Ref, reader: Node, kept: set[str]) -> Node | None:
    """Return the op behind ``ref`` if nobody but ``reader`` takes anything from it."""
    node = graph.nodes.get(ref.node)
    if node is None or not node.op or node.name in kept or graph.net.out_degree(node.name) != 1:
        return None
    return node if ref.port in node.outputs else None
