"""What stands in the picture before anything is placed: cards, wires, clusters, columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dsvgraph.graph import Graph, Node, Ref
from dsvgraph_graphviz.model.view import Subject
from dsvgraph_graphviz.style.markup import literal
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.text.shapes import Shapes

LONG = 16  # characters of a name
EACH = "*"  # a port: the first place of the card that is free


class End(NamedTuple):
    """Where a wire begins or ends: a card, or one of its cells.

    ``ahead`` is how many positions further on the tokens are that this value holds; None if it holds none.
    ``weight`` marks a weight, which another line may share.
    """

    card: str
    port: str = ""
    ahead: int | None = None
    weight: bool = False


@dataclass
class Card:
    """One box, circle or text of the picture. ``key`` tells which cards of two columns are alike."""

    id: str
    label: str
    column: int
    cluster: str
    role: Role
    key: object
    tip: str = ""
    shape: str = "card"  # card, circle, text
    mark: str = ""  # what differs, of a circle
    fill: str = ""  # of a circle, by its share of a cost
    body: str = ""  # whose lines these are: see Body
    lines: tuple[Node, ...] = ()  # what it is the box of: its own line, then those that are drawn in it


@dataclass(frozen=True)
class Body:
    """A body that is drawn line by line; ``id`` begins the ids of its cards.

    It is the inside of ``line``, which stands in the body ``within``: of those of its copies that are the
    ``groups`` of these numbers, or of one of them, the ``copy`` of this number.
    """

    graph: Graph
    id: str
    cluster: str
    line: Node | None = None
    within: str = ""
    groups: tuple[int, ...] = (0,)
    copy: int | None = None


@dataclass(frozen=True)
class Wire:
    """One line between two cards. Kinds: flow, handed (between columns), shared (a tied weight),
    entering (a tied weight from outside), gone (of the first of two models).

    ``label`` is the shape that flows, ``name`` what the reader's body calls it.
    """

    src: End
    dst: End
    kind: str = "flow"
    label: str = ""
    name: str = ""
    mark: str = ""  # added or removed


@dataclass
class Cluster:
    """A frame around cards: a column, a block that is open, or a ``strand`` of one: what makes queries, or keys.

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
    note: str = ""  # in small under the name
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
    """The whole picture. Columns count from 0, the main model; the block opened beside it is column -1."""

    cards: dict[str, Card] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    bodies: list[Body] = field(default_factory=list)

    def add(self, card: Card) -> Card:
        """Puts ``card`` in the scene."""
        assert card.id not in self.cards, card.id
        card.label = literal(card.label, "NGL")
        self.cards[card.id] = card
        return card

    def wire(self, src: End, dst: End, label: str = "", name: str = "", mark: str = "") -> None:
        """Draws a line: a weight is shared, a value flows within a column and is handed on between two."""
        if src.port == EACH:
            src = src._replace(port=f"out{sum(wire.src.card == src.card for wire in self.wires)}")
        crosses = self.cards[src.card].column != self.cards[dst.card].column
        entering = src.weight and self.cards[src.card].key == "entry"
        kind = "entering" if entering else "shared" if src.weight else "handed" if crosses else "flow"
        kind = "gone" if mark == "gone" else kind
        self.wires.append(Wire(src, dst, kind, label, name, mark))

    def columns(self) -> list[int]:
        """The columns that hold cards, from left to right."""
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
