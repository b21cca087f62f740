"""What a picture consists of before it is laid out: cards, wires, clusters, columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from dsvgraph.graph import Graph, Node, Ref
from dsvgraph_graphviz.model.analysis import Subject
from dsvgraph_graphviz.style.markup import literal
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.text.shapes import Shapes

LONG = 16  # characters of a name
EACH = "*"  # a port: the first place of the card that is free


class CardShape(StrEnum):
    """The outlines of cards."""

    CARD = "card"  # a box with cells
    CIRCLE = "circle"
    TEXT = "text"  # words without a box


class WireKind(StrEnum):
    """What a wire stands for."""

    FLOW = "flow"  # a value, within a column
    HANDED = "handed"  # a value, from one column to another
    SHARED = "shared"  # a tied weight, from its owner
    ENTERING = "entering"  # a tied weight, from outside of the block that is drawn
    GONE = "gone"  # of the first of two models only


class End(NamedTuple):
    """Where a wire begins or ends: a card, or one of its cells.

    ``ahead`` is how many positions further on the tokens are that this value holds; None if it holds none.
    ``weight`` says that the value is a weight, which another node may share.
    """

    card: str
    port: str = ""
    ahead: int | None = None
    weight: bool = False


@dataclass(kw_only=True)
class Card:
    """One box, circle or text of the picture. Cards of two columns that have an equal ``key`` are alike."""

    id: str
    label: str
    column: int
    cluster: str
    role: Role
    key: object
    tip: str = ""
    shape: CardShape = CardShape.CARD
    diff: str = ""  # of a circle: what differs between two models
    fill: str = ""  # of a circle: the colour of its share of a cost
    body: str = ""  # the id of the `Body` that its nodes stand in
    nodes: tuple[Node, ...] = ()  # what it is the box of: its own node, then those that are drawn in it


@dataclass(frozen=True, kw_only=True)
class Body:
    """A body that is drawn node by node; the ids of its cards begin with ``id``.

    It is the inside of ``node``, which stands in the body ``within``: of those of its groups of copies that have
    the numbers ``groups``, or of the one copy with the number ``copy``. Without a ``node`` it is the model, or a block
    drawn alone or beside the model.
    """

    graph: Graph
    id: str
    cluster: str
    node: Node | None = None
    within: str = ""
    groups: tuple[int, ...] = (0,)
    copy: int | None = None


@dataclass(frozen=True, kw_only=True)
class Container:
    """Where a body is drawn: its column and frame, the prefix of its ids, and the path of what it is the inside of.

    ``role`` is the body's own; in a ``named`` body cards carry the names of their nodes. ``node``, ``within``,
    ``groups`` and ``copy`` are as `Body` has them.
    """

    cluster: str
    column: int = 0
    id: str = ""
    path: str = ""
    role: Role = Role.PLAIN
    named: bool = False
    node: Node | None = None
    within: str = ""
    groups: tuple[int, ...] = (0,)
    copy: int | None = None

    def body(self, graph: Graph) -> Body:
        """Return the body of ``graph`` drawn here."""
        return Body(
            graph=graph, id=self.id, cluster=self.cluster,
            node=self.node, within=self.within, groups=self.groups, copy=self.copy,
        )  # fmt: skip

    def card(self, name: str, label: str, role: Role, key: object, **more: Any) -> Card:
        """Return a card that stands here; the rest of its id is ``name``."""
        return Card(
            id=self.id + name, label=label, column=self.column, cluster=self.cluster, role=role, key=key, **more
        )


@dataclass(frozen=True)
class Wire:
    """One line between two cards.

    ``label`` is the shape of the value, ``name`` what the reader's body calls it, ``diff`` whether only one of two
    models has it: added or removed.
    """

    src: End
    dst: End
    kind: WireKind = WireKind.FLOW
    label: str = ""
    name: str = ""
    diff: str = ""


@dataclass(kw_only=True)
class Cluster:
    """A frame around cards: a column, an open block, or a ``strand`` of one: what only queries, or keys, are made of.

    ``aside`` is a block that is open beside the model.
    """

    id: str
    title: str
    role: Role
    parent: str = ""
    badge: str = ""
    tip: str = ""
    strand: bool = False
    aside: bool = False
    note: str = ""  # in small letters under the title
    depth: int = 0  # of a column: the number of its copy in the chain, from 1

    @property
    def name(self) -> str:
        """The title with its badge."""
        return self.title + (f"   {self.badge}" if self.badge else "")

    @property
    def on_the_right(self) -> bool:
        """Whether the name stands on the right: where it is long, a line through the frame might cross it."""
        return bool(self.parent) and len(self.name) > LONG


@dataclass
class Scene:
    """The whole picture. Columns count from 0, the main model; blocks that are open beside it have negative numbers."""

    cards: dict[str, Card] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    bodies: list[Body] = field(default_factory=list)

    def add(self, card: Card) -> Card:
        """Add ``card``; return it."""
        assert card.id not in self.cards, card.id
        card.label = literal(card.label, "NGL")
        self.cards[card.id] = card
        return card

    def wire(self, src: End, dst: End, label: str = "", name: str = "", diff: str = "") -> None:
        """Add a wire; its kind follows from its ends and from what differs."""
        if src.port == EACH:
            src = src._replace(port=f"out{sum(wire.src.card == src.card for wire in self.wires)}")
        kind = WireKind.GONE if diff == "gone" else self._kind(src, dst)
        self.wires.append(Wire(src, dst, kind, label=label, name=name, diff=diff))

    def _kind(self, src: End, dst: End) -> WireKind:
        """Return SHARED or ENTERING for a weight, FLOW for a value within a column, HANDED between two."""
        start = self.cards[src.card]
        if src.weight:
            return WireKind.ENTERING if start.key == "entry" else WireKind.SHARED
        return WireKind.HANDED if start.column != self.cards[dst.card].column else WireKind.FLOW

    def columns(self) -> list[int]:
        """Return the columns that hold cards, from left to right."""
        return sorted({card.column for card in self.cards.values()})


Ends = dict[Ref, End]
"""Where each value of a body ends, by the reference that names it."""


@dataclass
class Plan(Subject):
    """A scene with what the losses need: where values end, and where those of each depth do."""

    scene: Scene = field(default_factory=Scene)
    ends: Ends = field(default_factory=dict)
    stacked: dict[Ref, list[tuple[End, tuple[int, ...]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shapes = Shapes(self.model, self.view.shapes)
