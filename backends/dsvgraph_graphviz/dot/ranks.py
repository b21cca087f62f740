"""Ranks: the longest path of every column, and which cards of two columns have the same rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import networkx as nx

from dsvgraph_graphviz.scene.parts import Card, End, Scene, Wire, WireKind

SAME, ALIKE, OTHER = 8, 3, 0  # how well two cards fit into one rank
GAP = -1  # a card alone in its rank
NEVER = -10_000


def heights(scene: Scene) -> dict[str, int]:
    """Return the height of every card over the inputs of its column, in cards on the longest path."""
    net = flow(scene)
    found: dict[str, int] = {}
    for name in nx.topological_sort(net):
        found[name] = max((found[below] + 1 for below in net.predecessors(name)), default=0)
    return found


def flow(scene: Scene) -> nx.DiGraph[str]:
    """Return the cards and the wires that flow within columns."""
    net: nx.DiGraph[str] = nx.DiGraph()
    net.add_nodes_from(scene.cards)
    net.add_edges_from((w.src.card, w.dst.card) for w in scene.wires if w.kind is WireKind.FLOW)
    return net


def spine(scene: Scene, column: int, heights: dict[str, int]) -> list[str]:
    """Return the cards on the longest path of a column, from below."""
    net = flow(scene)
    name = max((n for n, c in scene.cards.items() if c.column == column), key=heights.__getitem__)
    path = [name]
    while below := [n for n in net.predecessors(name) if heights[n] == heights[name] - 1]:
        name = below[0]
        path.append(name)
    return path[::-1]


def ranks(scene: Scene, spines: dict[int, list[str]]) -> list[list[str]]:
    """Return cards at one height, from below: columns line up by role, a block beside them by number.

    Several blocks stand on one line and are free above it.
    """
    grid = [[name] for name in spines[0]]
    for column in sorted(spines):
        if column > 0:
            grid = _aligned(grid, spines[column], _Fit(scene, grid, spines[column], column))
    beside = [spines[column] for column in sorted(spines, reverse=True) if column < 0]
    if len(beside) == 1:
        return _spread(grid, beside[0])
    return [[*grid[0], *(names[0] for names in beside)], *grid[1:]]


class _Fit:
    """How well the cards of one column fit into the ranks so far."""

    def __init__(self, scene: Scene, grid: list[list[str]], column: list[str], number: int) -> None:
        self.scene, self.grid, self.column = scene, grid, column
        self.limits = list(self._limits(number))

    def _limits(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield rank of each source that feeds several columns, and the card that it enters this column by.

        Its line runs level past the columns, so its rank must be free in them, and what it enters above.
        """
        for wire in buses(self.scene):
            if self.scene.cards[wire.dst.card].column == number and wire.dst.card in self.column:
                rank = next((i for i, names in enumerate(self.grid) if wire.src.card in names), -1)
                yield rank, self.column.index(wire.dst.card)

    def pair(self, i: int, j: int) -> int:
        """Return the score of putting card j into rank i."""
        if any(i == rank or (i < rank and j >= entry) for rank, entry in self.limits):
            return NEVER
        return max(_fit(self.scene.cards[other], self.scene.cards[self.column[j]]) for other in self.grid[i])

    def alone(self, i: int, j: int) -> int:
        """Return the score of a rank of its own for card j, below rank i."""
        return NEVER if any(i <= rank and j >= entry for rank, entry in self.limits) else GAP


def buses(scene: Scene) -> list[Wire]:
    """Return the wires of sources that are handed to several columns at once."""
    handed = [w for w in scene.wires if w.kind is WireKind.HANDED]
    targets: dict[End, set[int]] = {}
    for wire in handed:
        targets.setdefault(wire.src, set()).add(scene.cards[wire.dst.card].column)
    return [w for w in handed if len(targets[w.src]) > 1]


def _fit(a: Card, b: Card) -> int:
    if a.key == b.key:
        return SAME
    return ALIKE if a.role == b.role and a.shape == b.shape else OTHER


def _aligned(grid: list[list[str]], column: list[str], fit: _Fit) -> list[list[str]]:
    """Return the ranks with one more column, aligned as sequences are: best total fit, few gaps."""
    n, m = len(grid), len(column)
    best = {(n, m): (0, (n, m))}
    for i in range(n, -1, -1):
        for j in range(m, -1, -1):
            choices = []
            if i < n and j < m:
                choices.append((best[i + 1, j + 1][0] + fit.pair(i, j), (i + 1, j + 1)))
            if i < n:
                choices.append((best[i + 1, j][0] + GAP, (i + 1, j)))
            if j < m:
                choices.append((best[i, j + 1][0] + fit.alone(i, j), (i, j + 1)))
            best[i, j] = max(choices, key=lambda c: c[0]) if choices else best[i, j]
    return list(_walk(grid, column, best))


def _walk(grid: list[list[str]], column: list[str], best: dict[tuple[int, int], Any]) -> Iterator[list[str]]:
    at = (0, 0)
    while at != (len(grid), len(column)):
        (i, j), at = at, best[at][1]
        yield (grid[i] if at[0] > i else []) + ([column[j]] if at[1] > j else [])


def _spread(grid: list[list[str]], column: list[str]) -> list[list[str]]:
    """Return the ranks with another column beside them; the shorter of the two is spread over the longer."""
    few, many = sorted((len(grid), len(column)))
    if many - few > 3 or few < 2:
        return [*grid, *([name] for name in column)]
    places = [round(i * (many - 1) / (few - 1)) for i in range(few)]
    if len(column) <= len(grid):
        added = dict(zip(places, column, strict=True))
        return [[*rank, added[i]] if i in added else rank for i, rank in enumerate(grid)]
    held = dict(zip(places, grid, strict=True))
    return [[*held.get(i, []), name] for i, name in enumerate(column)]
