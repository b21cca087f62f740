"""Orthogonal edges: wires that skip ranks or change columns, drawn at right angles over bends in their ends' ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dsvgraph_graphviz.dot.ranks import buses
from dsvgraph_graphviz.scene.parts import Card, CardShape, End, Scene, Wire, WireKind
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.words import subscript

SKIP = 2  # ranks that a wire passes before it is drawn at right angles
HANDED_STYLE = {"color": theme.HANDED, "penwidth": "2.4", "fontcolor": theme.PINK.text}
SHARED_STYLE = {"style": "dashed", "dir": "none", "color": theme.AMBER.border, "penwidth": "1.3"}
RESIDUAL_STYLE = {"color": theme.RESIDUAL}
THIN = 0.01  # inches
ENTRIES, EXITS = ("in", "entry"), ("out", "exit")  # keys of cards


@dataclass(frozen=True)
class Bend:
    """A point where an orthogonal edge turns; a wide one keeps room free."""

    id: str
    group: str
    color: str
    width: float = THIN


@dataclass(frozen=True)
class Edge:
    """One straight piece of an orthogonal edge."""

    tail: str
    head: str
    style: dict[str, str]


@dataclass
class OrthogonalEdges:
    """The orthogonal edges of a scene: their bends by frame, their pieces, and the bends beside each card."""

    scene: Scene
    heights: dict[str, int]
    ranks: list[list[str]]
    group: dict[str, str]
    bends: dict[str, list[Bend]] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    beside: dict[str, list[str]] = field(default_factory=dict)
    turned: bool = False  # data flows to the right: ranks stand upright and begin below

    def __post_init__(self) -> None:
        self.into: dict[str, list[Wire]] = {}
        for wire in self.scene.wires:
            self.into.setdefault(wire.dst.card, []).append(wire)
        self.rank = {name: i for i, names in enumerate(self.ranks) for name in names}
        self.lifted = dict(self._lifted())
        self.right: dict[str, str] = {}  # the bend on the right of a card
        self.steps: dict[tuple[End, str], tuple[str, str, str]] = {}  # bend and group of a wire into a column
        self.entered: set[str] = set()  # frames that a wire past several columns goes through
        self.lanes: dict[str, list[tuple[int, int, int]]] = {}
        self._residuals()
        self._handed()
        self._shared()

    def carries(self, wire: Wire) -> bool:
        """Return whether a wire is drawn in pieces at right angles."""
        return wire.kind in (WireKind.HANDED, WireKind.SHARED) or self._skips(wire)

    def same_ranks(self) -> Iterator[list[str]]:
        """Yield sets of cards and bends that have one rank."""
        for names in self.ranks:
            yield [*names, *(p for n in names for p in self.beside.get(n, ()))]
        for name, corners in self.beside.items():
            if name not in self.rank:
                yield [name, *corners]
        yield from self.lifted.values()

    def _lifted(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the outputs of a frame above its first skipping wire: in one rank, so that the wire stays straight."""
        sums: dict[str, int] = {}
        for wire in filter(self._skips, self.scene.wires):
            sums.setdefault(self._frame(wire), self._height(wire.dst))
        for frame, height in sums.items():
            cards = (c for c in self.scene.cards.values() if c.cluster == frame and c.key in EXITS)
            names = [card.id for card in cards if self.heights[card.id] >= height]
            if len(names) > 1:
                yield frame, names

    # -- around blocks ----------------------------------------------------------------------

    def _skips(self, wire: Wire) -> bool:
        """Return whether a wire goes past other cards into a circle."""
        circle = self.scene.cards[wire.dst.card].shape is CardShape.CIRCLE
        return circle and wire.kind is WireKind.FLOW and self._height(wire.dst) - self._height(wire.src) >= SKIP

    def _height(self, end: End) -> int:
        return self.heights[end.card]

    def _residuals(self) -> None:
        for wire in self.scene.wires:
            if self._skips(wire):
                lane = self._lane(wire)
                group = f"{self._frame(wire)}-lane-{lane}"
                if self._is_branch(wire):
                    self._branch(wire, group)
                    continue
                low, high = (
                    self.bend(c, self._frame(wire), group, theme.RESIDUAL) for c in (wire.src.card, wire.dst.card)
                )
                right = lane % 2 == 0
                self.right |= {wire.src.card: low, wire.dst.card: high} if right else {}
                self._flat(wire.src.card, low, right, {**RESIDUAL_STYLE, "dir": "none"})
                self.piece(low, high, {**RESIDUAL_STYLE, "dir": "none", "weight": "8"})
                self._arrow(wire.dst.card, high, right, RESIDUAL_STYLE)

    def _is_branch(self, wire: Wire) -> bool:
        """Return whether a wire comes from a card beside the spine, and not from a value that goes around."""
        return wire.src.card not in self.group and self.scene.cards[wire.src.card].shape is CardShape.CARD

    def _branch(self, wire: Wire, group: str) -> None:
        """Draw a wire straight up from a card beside the spine, then level into the circle.

        It stands on the right, but on the left where it is made of what another column hands on.
        """
        card, group = wire.src.card, f"{group}-{wire.src.card}"
        self.group[card] = group
        high = self.bend(wire.dst.card, self._frame(wire), group, theme.RESIDUAL)
        self.piece(card, high, {**RESIDUAL_STYLE, "dir": "none", "weight": "2"})
        self._arrow(wire.dst.card, high, not self._is_handed(card), RESIDUAL_STYLE)

    def _is_handed(self, card: str) -> bool:
        """Return whether a card takes in what another column hands on, itself or by cards beside the spine."""
        left, seen = [card], {card}
        while left:
            into = self.into.get(left.pop(), ())
            if any(wire.kind is WireKind.HANDED for wire in into):
                return True
            below = {w.src.card for w in into if w.kind is WireKind.FLOW and w.src.card not in self.group} - seen
            seen |= below
            left += below
        return False

    def _frame(self, wire: Wire) -> str:
        return self.scene.cards[wire.dst.card].cluster

    def _lane(self, wire: Wire) -> int:
        """Return the first free lane: 0 on the right, 1 on the left, 2 on the right again. Lines do not touch.

        A branch, which is no skip, keeps to the right; where more leaves above it, a skip begins on the left.
        """
        low, high = self._height(wire.src), self._height(wire.dst)
        taken = self.lanes.setdefault(self._frame(wire), [])
        branch = self._is_branch(wire)
        lane = int((self._frame(wire) in self.lifted or self._enters_left(wire)) and not branch)
        step = 2 if branch else 1
        busy = {other for other, bottom, top in taken if low <= top and bottom <= high}
        while lane in busy:
            lane += step
        taken.append((lane, low, high))
        return lane

    def _enters_left(self, wire: Wire) -> bool:
        """Return whether a wire comes from one of the first of many inputs, which stand on the left."""
        frame = self._frame(wire)
        inputs = [card.id for card in self.scene.cards.values() if card.cluster == frame and card.key in ENTRIES]
        return len(inputs) > 2 and wire.src.card in inputs[: len(inputs) // 2]

    # -- between columns --------------------------------------------------------------------

    def _handed(self) -> None:
        shared_out = buses(self.scene)
        for wire in self.scene.wires:
            if wire.kind is WireKind.HANDED and wire not in shared_out:
                self._step(wire, HANDED_STYLE)
        for source in dict.fromkeys(w.src for w in shared_out):
            self._bus([w for w in shared_out if w.src == source])

    def _step(self, wire: Wire, style: dict[str, str], arrow: bool = True) -> None:
        """Draw a wire level out of one column, along the side of its neighbour, and level into that."""
        card = self.scene.cards[wire.dst.card]
        frame, group = self._top(card), f"{self._top(card)}-in-{len(self.edges)}"
        start, group, name = self.steps.get((wire.src, frame), ("", group, ""))  # a second line leaves the first
        if not start:
            start = self.bend(wire.src.card, frame, group, style["color"])
            self._level(start, wire.src.card, {**style, "dir": "none"})  # the other way graphviz 2.4 draws it twice
            depth = self.scene.clusters[self._top(self.scene.cards[wire.src.card])].depth
            name = f"{wire.name}{subscript(depth)}" if wire.name else ""
        end = self.bend(wire.dst.card, frame, group, style["color"])
        self.steps[wire.src, frame] = start, group, ""
        self._between(wire, start, end, {**style, "dir": "none", "weight": "4", "label": name})
        self._level(end, wire.dst.card, style if arrow else {**style, "dir": "none"})

    def _between(self, wire: Wire, start: str, end: str, style: dict[str, str]) -> None:
        a, b = self.rank.get(wire.src.card), self.rank.get(wire.dst.card)
        if a is None or b is None:  # to a branch: on its column's left all the same
            column = self.scene.cards[wire.dst.card].column
            same = [n for n in self.ranks[a] if self.scene.cards[n].column == column] if a is not None else []
            for name in same:
                self._level(start, name, {"style": "invis"})
            a, b = self.heights[wire.src.card], self.heights[wire.dst.card]
        self.piece(*((start, end) if a <= b else (end, start)), style)

    def _bus(self, wires: list[Wire]) -> None:
        """Draw one level line past several columns: straight up into each, and on its right to what lies above."""
        before = wires[0].src.card
        for wire in sorted(wires, key=lambda wire: self._order(wire.dst.card)):
            card, frame = wire.dst.card, self._top(self.scene.cards[wire.dst.card])
            straight = frame not in self.entered
            group = self.group.get(card, card) if straight else f"{frame}-bus-{len(self.edges)}"
            corner = self.bend(wire.src.card, frame, group, theme.HANDED)
            ends = (corner, before) if straight else (before, corner)  # within a frame from left to right
            self._level(*ends, {**HANDED_STYLE, "dir": "none"})
            self.piece(corner, card, HANDED_STYLE) if straight else self._up(corner, wire, frame, group)
            before = corner
            self.entered.add(frame)

    def _up(self, corner: str, wire: Wire, frame: str, group: str) -> None:
        """Draw a line from a bend along the right of a column, then level into a card."""
        end = self.bend(wire.dst.card, frame, group, theme.HANDED)
        self.piece(corner, end, {**HANDED_STYLE, "dir": "none", "weight": "8"})
        self._arrow(wire.dst.card, end, not self.turned, HANDED_STYLE)

    # -- shared weights ---------------------------------------------------------------------

    def _shared(self) -> None:
        """Link the owner of a weight to its users, column by column."""
        wires = [w for w in self.scene.wires if w.kind is WireKind.SHARED]
        for owner in dict.fromkeys(w.src.card for w in wires):
            before = [owner]
            for user in sorted({w.dst.card for w in wires if w.src.card == owner}, key=self._order):
                self._link(self._nearest(before, user), user)
                before.append(user)

    def _nearest(self, before: list[str], user: str) -> str:
        """Return which card that holds the weight a user is linked to: one of its rank, in its column, the owner."""
        rank, column = self.rank.get(user), self.scene.cards[user].column
        level = [card for card in before if rank is not None and self.rank.get(card) == rank]
        beside = [card for card in before if self.scene.cards[card].column == column]
        return [before[0], *beside[-1:], *level[-1:]][-1]

    def _order(self, card: str) -> tuple[int, int]:
        return self.scene.cards[card].column, self.heights[card]

    def _link(self, left: str, right: str) -> None:
        a, b = self.scene.cards[left], self.scene.cards[right]
        if self.rank.get(left) is not None and self.rank.get(left) == self.rank.get(right):
            self.piece(right, left, SHARED_STYLE)  # drawn twice by graphviz 2.4 the other way round
        elif a.column == b.column:
            self._around(left, right)
        else:
            self._step(Wire(End(left), End(right), WireKind.SHARED), SHARED_STYLE, arrow=False)

    def _around(self, low: str, high: str) -> None:
        """Link two cards of one column on its left (above, where data flows to the right)."""
        low, high = sorted((low, high), key=self.heights.__getitem__)
        frame = self._top(self.scene.cards[low])
        group = f"{frame}-tied-{len(self.edges)}"
        a, b = (self.bend(card, frame, group, SHARED_STYLE["color"]) for card in (low, high))
        self._level(a, low, SHARED_STYLE)
        self.piece(a, b, {**SHARED_STYLE, "weight": "8"})
        self._level(b, high, SHARED_STYLE)

    # -- pieces -----------------------------------------------------------------------------

    def _top(self, card: Card) -> str:
        cluster = card.cluster
        while parent := self.scene.clusters[cluster].parent:
            cluster = parent
        return cluster

    def bend(self, card: str, frame: str, group: str, color: str, width: float = THIN) -> str:
        """Add a bend in the rank of ``card``; return its id."""
        id_ = f"corner/{sum(len(p) for p in self.bends.values())}"
        self.bends.setdefault(frame, []).append(Bend(id_, group, color, width))
        self.beside.setdefault(card, []).append(id_)
        return id_

    def _flat(self, card: str, corner: str, right: bool, style: dict[str, str]) -> None:
        self.piece(*((card, corner) if right else (corner, card)), style)

    def _arrow(self, card: str, corner: str, right: bool, style: dict[str, str]) -> None:
        """Draw an arrow into a card from a bend on its right or left."""
        if right:
            self.piece(card, corner, {**style, "dir": "back"})
        else:
            self.piece(corner, card, style)

    def _level(self, tail: str, head: str, style: dict[str, str]) -> None:
        """Add a piece within one rank, between columns."""
        if self.turned:
            tail, head, style = head, tail, {**style, "dir": "none" if style.get("dir") == "none" else "back"}
        self.piece(tail, head, style)

    def piece(self, tail: str, head: str, style: dict[str, str]) -> None:
        self.edges.append(Edge(tail, head, style))
