"""OrthogonalEdges: lines that skip rows or change columns run at right angles, over points in their ends' rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dsvgraph_graphviz.dot.ranks import buses
from dsvgraph_graphviz.scene.parts import Card, CardShape, End, Scene, Wire, WireKind
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.words import subscript

SKIP = 2  # rows that a line must pass to run on a rail
HANDED = {"color": theme.HANDED, "penwidth": "2.4", "fontcolor": theme.PINK.text}
SHARED = {"style": "dashed", "dir": "none", "color": theme.AMBER.border, "penwidth": "1.3"}
RESIDUAL = {"color": theme.RAIL}


THIN = 0.01  # inches
ENTRIES, EXITS = ("in", "entry"), ("out", "exit")  # keys of cards


@dataclass(frozen=True)
class Bend:
    """A corner of a rail; a wide one keeps room free."""

    id: str
    group: str
    color: str
    width: float = THIN


@dataclass(frozen=True)
class Edge:
    """One piece of a rail."""

    tail: str
    head: str
    style: dict[str, str]


@dataclass
class OrthogonalEdges:
    """The rails of a scene: their corners by frame, their pieces, and the corners beside each card."""

    scene: Scene
    heights: dict[str, int]
    rows: list[list[str]]
    group: dict[str, str]
    points: dict[str, list[Bend]] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    beside: dict[str, list[str]] = field(default_factory=dict)
    turned: bool = False  # data flows to the right: rows stand upright and begin below

    def __post_init__(self) -> None:
        self.into: dict[str, list[Wire]] = {}
        for wire in self.scene.wires:
            self.into.setdefault(wire.dst.card, []).append(wire)
        self.row = {name: i for i, names in enumerate(self.rows) for name in names}
        self.lifted = dict(self._lifted())
        self.right: dict[str, str] = {}  # the corner on the right of a card
        self.steps: dict[tuple[End, str], tuple[str, str, str]] = {}  # corner and group of a line into a column
        self.entered: set[str] = set()  # frames that a line past several columns goes through
        self.lanes: dict[str, list[tuple[int, int, int]]] = {}
        self._residuals()
        self._handed()
        self._shared()

    def carries(self, wire: Wire) -> bool:
        """Whether a wire is drawn on a rail."""
        return wire.kind in (WireKind.HANDED, WireKind.SHARED) or self._skips(wire)

    def ranks(self) -> Iterator[list[str]]:
        """Sets of cards and corners that stand at one height."""
        for names in self.rows:
            yield [*names, *(p for n in names for p in self.beside.get(n, ()))]
        for name, corners in self.beside.items():
            if name not in self.row:
                yield [name, *corners]
        yield from self.lifted.values()

    def _lifted(self) -> Iterator[tuple[str, list[str]]]:
        """What leaves a frame above the first sum with a rail: in one row, so that no rail bends around it."""
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
        """Whether a wire goes past other cards into a circle."""
        circle = self.scene.cards[wire.dst.card].shape is CardShape.CIRCLE
        return circle and wire.kind is WireKind.FLOW and self._height(wire.dst) - self._height(wire.src) >= SKIP

    def _height(self, end: End) -> int:
        return self.heights[end.card]

    def _residuals(self) -> None:
        for wire in self.scene.wires:
            if self._skips(wire):
                lane = self._lane(wire)
                group = f"{self._frame(wire)}-rail-{lane}"
                if self._is_branch(wire):
                    self._branch(wire, group)
                    continue
                low, high = (
                    self.point(c, self._frame(wire), group, theme.RAIL) for c in (wire.src.card, wire.dst.card)
                )
                right = lane % 2 == 0
                self.right |= {wire.src.card: low, wire.dst.card: high} if right else {}
                self._flat(wire.src.card, low, right, {**RESIDUAL, "dir": "none"})
                self.piece(low, high, {**RESIDUAL, "dir": "none", "weight": "8"})
                self._arrow(wire.dst.card, high, right, RESIDUAL)

    def _is_branch(self, wire: Wire) -> bool:
        """Whether a wire comes from a card beside the spine, and not from a value that goes around."""
        return wire.src.card not in self.group and self.scene.cards[wire.src.card].shape is CardShape.CARD

    def _branch(self, wire: Wire, group: str) -> None:
        """Straight up from a card beside the spine, then level into the circle.

        It stands on the right, but on the left where it is made of what another column hands on.
        """
        card, group = wire.src.card, f"{group}-{wire.src.card}"
        self.group[card] = group
        high = self.point(wire.dst.card, self._frame(wire), group, theme.RAIL)
        self.piece(card, high, {**RESIDUAL, "dir": "none", "weight": "2"})
        self._arrow(wire.dst.card, high, not self._is_handed(card), RESIDUAL)

    def _is_handed(self, card: str) -> bool:
        """Whether a card takes in what another column hands on, itself or by cards beside the spine."""
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
        """The first free lane: 0 on the right, 1 on the left, 2 on the right again. Lines may not touch.

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
        """Whether a wire comes from one of the first of many inputs, which stand on the left."""
        frame = self._frame(wire)
        inputs = [card.id for card in self.scene.cards.values() if card.cluster == frame and card.key in ENTRIES]
        return len(inputs) > 2 and wire.src.card in inputs[: len(inputs) // 2]

    # -- between columns --------------------------------------------------------------------

    def _handed(self) -> None:
        shared_out = buses(self.scene)
        for wire in self.scene.wires:
            if wire.kind is WireKind.HANDED and wire not in shared_out:
                self._step(wire, HANDED)
        for source in dict.fromkeys(w.src for w in shared_out):
            self._bus([w for w in shared_out if w.src == source])

    def _step(self, wire: Wire, style: dict[str, str], arrow: bool = True) -> None:
        """Level out of one column, along its neighbour's edge, level into it."""
        card = self.scene.cards[wire.dst.card]
        frame, group = self._top(card), f"{self._top(card)}-in-{len(self.edges)}"
        start, group, name = self.steps.get((wire.src, frame), ("", group, ""))  # a second line leaves the first
        if not start:
            start = self.point(wire.src.card, frame, group, style["color"])
            self._level(start, wire.src.card, {**style, "dir": "none"})  # the other way graphviz 2.4 draws it twice
            depth = self.scene.clusters[self._top(self.scene.cards[wire.src.card])].depth
            name = f"{wire.name}{subscript(depth)}" if wire.name else ""
        end = self.point(wire.dst.card, frame, group, style["color"])
        self.steps[wire.src, frame] = start, group, ""
        self._between(wire, start, end, {**style, "dir": "none", "weight": "4", "label": name})
        self._level(end, wire.dst.card, style if arrow else {**style, "dir": "none"})

    def _between(self, wire: Wire, start: str, end: str, style: dict[str, str]) -> None:
        a, b = self.row.get(wire.src.card), self.row.get(wire.dst.card)
        if a is None or b is None:  # to a branch: on its column's left all the same
            column = self.scene.cards[wire.dst.card].column
            same = [n for n in self.rows[a] if self.scene.cards[n].column == column] if a is not None else []
            for name in same:
                self._level(start, name, {"style": "invis"})
            a, b = self.heights[wire.src.card], self.heights[wire.dst.card]
        self.piece(*((start, end) if a <= b else (end, start)), style)

    def _bus(self, wires: list[Wire]) -> None:
        """One level line past several columns: straight up into each, and on its right to what lies above."""
        before = wires[0].src.card
        for wire in sorted(wires, key=lambda wire: self._order(wire.dst.card)):
            card, frame = wire.dst.card, self._top(self.scene.cards[wire.dst.card])
            straight = frame not in self.entered
            group = self.group.get(card, card) if straight else f"{frame}-bus-{len(self.edges)}"
            corner = self.point(wire.src.card, frame, group, theme.HANDED)
            ends = (corner, before) if straight else (before, corner)  # within a frame from left to right
            self._level(*ends, {**HANDED, "dir": "none"})
            self.piece(corner, card, HANDED) if straight else self._up(corner, wire, frame, group)
            before = corner
            self.entered.add(frame)

    def _up(self, corner: str, wire: Wire, frame: str, group: str) -> None:
        """From a corner along the right of a column, then level into a card."""
        end = self.point(wire.dst.card, frame, group, theme.HANDED)
        self.piece(corner, end, {**HANDED, "dir": "none", "weight": "8"})
        self._arrow(wire.dst.card, end, not self.turned, HANDED)

    # -- shared weights ---------------------------------------------------------------------

    def _shared(self) -> None:
        """From the owner to its users, column by column."""
        wires = [w for w in self.scene.wires if w.kind is WireKind.SHARED]
        for owner in dict.fromkeys(w.src.card for w in wires):
            before = [owner]
            for user in sorted({w.dst.card for w in wires if w.src.card == owner}, key=self._order):
                self._link(self._nearest(before, user), user)
                before.append(user)

    def _nearest(self, before: list[str], user: str) -> str:
        """Which card that holds the weight a user is linked to: one in its row, in its column, the owner."""
        row, column = self.row.get(user), self.scene.cards[user].column
        level = [card for card in before if row is not None and self.row.get(card) == row]
        beside = [card for card in before if self.scene.cards[card].column == column]
        return [before[0], *beside[-1:], *level[-1:]][-1]

    def _order(self, card: str) -> tuple[int, int]:
        return self.scene.cards[card].column, self.heights[card]

    def _link(self, left: str, right: str) -> None:
        a, b = self.scene.cards[left], self.scene.cards[right]
        if self.row.get(left) is not None and self.row.get(left) == self.row.get(right):
            self.piece(right, left, SHARED)  # drawn twice by graphviz 2.4 the other way round
        elif a.column == b.column:
            self._around(left, right)
        else:
            self._step(Wire(End(left), End(right), WireKind.SHARED), SHARED, arrow=False)

    def _around(self, low: str, high: str) -> None:
        """Two cards of one column: on its left (above, where data flows to the right)."""
        low, high = sorted((low, high), key=self.heights.__getitem__)
        frame = self._top(self.scene.cards[low])
        group = f"{frame}-tied-{len(self.edges)}"
        a, b = (self.point(card, frame, group, SHARED["color"]) for card in (low, high))
        self._level(a, low, SHARED)
        self.piece(a, b, {**SHARED, "weight": "8"})
        self._level(b, high, SHARED)

    # -- pieces -----------------------------------------------------------------------------

    def _top(self, card: Card) -> str:
        cluster = card.cluster
        while parent := self.scene.clusters[cluster].parent:
            cluster = parent
        return cluster

    def point(self, card: str, frame: str, group: str, color: str, width: float = THIN) -> str:
        """A corner at the height of ``card``."""
        id_ = f"corner/{sum(len(p) for p in self.points.values())}"
        self.points.setdefault(frame, []).append(Bend(id_, group, color, width))
        self.beside.setdefault(card, []).append(id_)
        return id_

    def _flat(self, card: str, corner: str, right: bool, style: dict[str, str]) -> None:
        self.piece(*((card, corner) if right else (corner, card)), style)

    def _arrow(self, card: str, corner: str, right: bool, style: dict[str, str]) -> None:
        """Into a card from a corner on its right or left."""
        if right:
            self.piece(card, corner, {**style, "dir": "back"})
        else:
            self.piece(corner, card, style)

    def _level(self, tail: str, head: str, style: dict[str, str]) -> None:
        """A piece within one row, between columns."""
        if self.turned:
            tail, head, style = head, tail, {**style, "dir": "none" if style.get("dir") == "none" else "back"}
        self.piece(tail, head, style)

    def piece(self, tail: str, head: str, style: dict[str, str]) -> None:
        self.edges.append(Edge(tail, head, style))
