"""Nodes drawn as cells of a neighbour: a split on what it cuts, a concat and its norms on their reader."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Node, Ref
from dsvgraph_graphviz.words import number, op_title

NORMS = ("rms_norm", "layer_norm")


@dataclass
class Cell:
    """One cell of a card: its port, its words, and what is wired into it (for a value that comes in)."""

    port: str
    text: str
    ref: Ref | None = None
    name: str = ""  # of the value
    turned: bool = False  # by its position
    norm: Node | None = None  # drawn in the cell


@dataclass
class Fused:
    """A node with the nodes drawn inside its card: values come in by the cells ``below``, leave ``above``."""

    node: Node
    concat: Node | None = None
    split: Node | None = None
    below: list[Cell] = field(default_factory=list)
    above: list[Cell] = field(default_factory=list)

    @property
    def last(self) -> Node:
        """The node whose outputs leave the card."""
        return self.split or self.node

    @property
    def joined(self) -> str:
        """The values of a concat in its order: [a; b]."""
        names = {c.port: c.name for c in self.below}
        return f"[{'; '.join(names[p] for p in self.concat.inputs)}]" if self.concat else ""

    @property
    def inputs(self) -> dict[str, Ref]:
        """What is wired into the card, by port."""
        return {c.port: c.ref for c in self.below if c.ref} or self.node.inputs


def out_port(output: str) -> str:
    """The cell that an output leaves from; inputs may have the same name."""
    return f"{output}-out"


def fused(graph: Graph) -> list[Fused]:
    """The cards of a body in its order, each with what it takes in."""
    kept = {ref.node for ref in (*graph.outputs.values(), *graph.cache)}
    inner: set[str] = set()
    across = positions(graph)
    cards = []
    for node in reversed(graph.nodes.values()):  # readers first
        if node.name not in inner:
            cards.append(_card(graph, node, kept, inner))
            _untangle(graph, cards[-1], across)
    return cards[::-1]


def positions(graph: Graph) -> dict[str, float]:
    """How far to the right the readers of each node want it: an op takes named inputs from left to right."""
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
    return found[reader] + ports.index(port) - (len(ports) - 1) / 2


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0


def _untangle(graph: Graph, card: Fused, across: dict[str, float]) -> None:
    """Orders the cells whose order is free so that fewer lines cross; a concat gives its own in words."""
    last = card.last
    if last.op and (len(last.outputs) > 1 or card.split):
        card.above = [Cell(out_port(o), f"{o} {features(t.shape)}") for o, t in last.outputs.items()]
        edges = list(graph.net.out_edges(last.name, data=True))
        wanted = {
            out_port(o): _mean([_wanted(graph, r, e["dst"], across) for _, r, e in edges if e["src"] == o])
            for o in last.outputs
        }
        card.above.sort(key=lambda c: wanted[c.port])
    if card.concat:
        card.below.sort(key=lambda c: across.get(c.ref.node, 0) if c.ref else 0)


def _card(graph: Graph, node: Node, kept: set[str], inner: set[str]) -> Fused:
    card = _with_split(graph, node, kept) if node.callee == "split" else Fused(node)
    inner.add(card.node.name)
    card.concat = _concat(graph, card.node, kept)
    if card.concat:
        inner.add(card.concat.name)
        card.below = [_joined(graph, card.concat, p, r, kept, inner) for p, r in card.concat.inputs.items()]
    elif card.node.op and not card.node.op.variadic and len(card.node.inputs) > 1:
        card.below = _beside(graph, [Cell(port, port, ref) for port, ref in card.node.inputs.items()])
    return card


def _beside(graph: Graph, cells: list[Cell]) -> list[Cell]:
    """The inputs of an op so that few lines cross: what was made last comes straight from below, what enters
    the body passes on the right."""
    made = {name: i for i, name in enumerate(graph.nodes)}
    cells = sorted(cells, key=lambda c: c.ref is not None and c.ref.node not in made)
    last = max(cells, key=lambda c: made.get(c.ref.node, -1) if c.ref else -1)
    if len(cells) > 2:
        cells.remove(last)
        cells.insert(len(cells) // 2, last)
    return cells


def single(graph: Graph, node: Node) -> Fused:
    """The card of one node alone."""
    return _card(graph, node, set(graph.nodes), set())


def _with_split(graph: Graph, node: Node, kept: set[str]) -> Fused:
    source = _only_for(graph, node.inputs["x"], node, kept)
    return Fused(source if source is not None and source.callee == "linear" else node, split=node)


def _concat(graph: Graph, node: Node, kept: set[str]) -> Node | None:
    if node.callee == "concat":
        return node
    source = _only_for(graph, node.inputs["x"], node, kept) if node.callee == "linear" else None
    return source if source is not None and source.callee == "concat" else None


def _joined(graph: Graph, concat: Node, port: str, ref: Ref, kept: set[str], inner: set[str]) -> Cell:
    """A cell for one joined value; a norm that is only for it is drawn in it."""
    source = _only_for(graph, ref, concat, kept)
    if source is None or source.callee not in NORMS:
        name = value_name(graph, ref)
        return Cell(port, f"{name} {number(graph.type(ref).shape[-1])}", ref, name, turned(graph, ref))
    inner.add(source.name)
    behind = source.inputs["x"]
    return Cell(port, f"{op_title(source)} {behind.node}", behind, behind.node, norm=source)


def value_name(graph: Graph, ref: Ref) -> str:
    """What a value is called: a part of a split by its port, others by their line."""
    return ref.port if ref.node in graph.nodes and graph.nodes[ref.node].callee == "split" else ref.node


def turned(graph: Graph, ref: Ref) -> bool:
    """Whether a value is what RoPE made, perhaps spread over heads."""
    node = graph.nodes.get(ref.node)
    if node is not None and node.callee == "expand":
        return turned(graph, node.inputs["x"])
    return node is not None and node.callee == "rope"


def features(shape: tuple[Size, ...]) -> str:
    """What a value holds at each position: 128 × 64."""
    return " × ".join(number(s) for s in shape[2:] or shape[-1:])


def _only_for(graph: Graph, ref: Ref, reader: Node, kept: set[str]) -> Node | None:
    """The op behind ``ref`` if nobody but ``reader`` takes anything from it."""
    node = graph.nodes.get(ref.node)
    if node is None or not node.op or node.name in kept or graph.net.out_degree(node.name) != 1:
        return None
    return node if ref.port in node.outputs else None
