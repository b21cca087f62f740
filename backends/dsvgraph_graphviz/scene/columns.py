"""The columns of a chain: one for each copy of a node, or for each kind of copies, from left to right."""

from __future__ import annotations

from typing import NamedTuple

from dsvgraph.dims import Poly
from dsvgraph.graph import Graph, Node, Ref, join
from dsvgraph_graphviz.model.comparison import ComparedGraph, diffs_of
from dsvgraph_graphviz.scene.builder import SceneBuilder, known, tooltip
from dsvgraph_graphviz.scene.parts import Cluster, Container, End, Plan
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.style.words import number, readable, times
from dsvgraph_graphviz.text.differences import SIGNS

COLUMNS = 4  # copies that get a column each; of more each kind does, with its depths
KINDS = 8  # of copies that get a column each; a chain of more is a card of the model


class _Column(NamedTuple):
    """What one column shows of a chain: copies that are alike, by their depths (from 1), or all of an open number."""

    graph: Graph
    depths: tuple[int, ...]
    groups: tuple[int, ...]
    copy: int | None = None  # where it is a single one


def _shown(node: Node) -> list[_Column]:
    """Return the columns of a chain: one for each copy; where these are many, one for each kind of them."""
    if isinstance(node.count, Poly):
        return [_Column(copies.graph, (), (i,)) for i, copies in enumerate(node.copies)]
    each = [(i, copies.graph) for i, copies in enumerate(node.copies) for _ in range(int(copies.count))]  # type: ignore[arg-type]
    if len(each) <= COLUMNS:
        return [_Column(graph, (depth,), (i,), depth - 1) for depth, (i, graph) in enumerate(each, 1)]
    found: dict[Graph, tuple[set[int], list[int]]] = {}
    for depth, (i, graph) in enumerate(each, 1):
        groups, depths = found.setdefault(graph, (set(), []))
        groups.add(i)
        depths.append(depth)
    return [_Column(graph, tuple(depths), tuple(groups)) for graph, (groups, depths) in found.items()]


def draw_columns(made: Plan, builder: SceneBuilder, node: Node, inside: Container) -> None:
    """One column per copy, or kind of copies; what is carried goes from column to column."""
    state = {port: made.ends[ref] for port, ref in known(node.inputs, made.ends)}
    columns, ahead = _shown(node), _Ahead(node, state)
    numbers = [number for number, _ in node.copy_graphs()] if columns[0].depths else []
    for i, column in enumerate(columns):
        id_, alone = f"{node.name}-{i + 1}", column.copy is not None
        path = join(node.at, str(numbers[column.depths[0] - 1]) if alone else "*")
        note = path if made.view.weights else "one set of weights" if node.reused and alone else ""
        badge = _column_mark(made.comparison, node, i) or ("" if alone else _badge(node, column))
        title, depth = f"{readable(node.name)} {depths_text(column.depths)}", max(column.depths, default=0)
        made.scene.clusters[id_] = Cluster(
            id=id_, title=title, role=Role.MTP, badge=badge, tip=tooltip(node, inside), note=note, depth=depth
        )
        inner = Container(
            column=max(made.scene.columns()) + 1, cluster=id_, id=f"{id_}/", path=path, role=Role.MTP,
            node=node, within=inside.id, groups=column.groups, copy=column.copy,
        )  # fmt: skip
        before = ahead.at(state, column)
        ends = builder.body(column.graph, before, inner)
        outs = {name: ends[ref] for name, ref in column.graph.outputs.items()}
        ahead.moved(column, before, outs)
        state |= {port: end for port, end in outs.items() if port in node.carried}
        for port, end in outs.items():
            made.ends[Ref(node.name, port)] = end
            made.stacked.setdefault(Ref(node.name, port), []).append((end, column.depths))


class _Ahead:
    """How far on the rows of tokens are that each column begins with: every copy before it has moved them."""

    def __init__(self, node: Node, state: dict[str, End]) -> None:
        self.first = {port: end.ahead for port, end in state.items() if end.ahead is not None}
        known = not isinstance(node.count, Poly)
        self.copies = [copies.graph for copies in node.copies for _ in range(int(copies.count))] if known else []  # type: ignore[arg-type]
        self.steps: dict[Graph, dict[str, int]] = {}

    def at(self, state: dict[str, End], column: _Column) -> dict[str, End]:
        """Return the ends that a column begins with."""
        before = self.copies[: column.depths[0] - 1] if column.depths else []
        far = {p: first + sum(self.steps[graph].get(p, 0) for graph in before) for p, first in self.first.items()}
        return {port: end._replace(ahead=far.get(port)) for port, end in state.items()}

    def moved(self, column: _Column, before: dict[str, End], outs: dict[str, End]) -> None:
        """Note how far a copy of this column moves each row."""
        pairs = {port: (end.ahead, outs[port].ahead) for port, end in before.items() if port in outs}
        self.steps[column.graph] = {p: b - a for p, (a, b) in pairs.items() if a is not None and b is not None}


def _badge(node: Node, column: _Column) -> str:
    """Return how many copies a column stands for."""
    one_kind = not column.depths or len(column.depths) == node.count
    return times(node) if one_kind else f"× {number(len(column.depths))}"


def depths_text(depths: tuple[int, ...]) -> str:
    """Return the depths of a chain that one column shows; none are all of an open number.

    >>> depths_text((2,)), depths_text((1, 2, 3)), depths_text((1, 3, 5)), depths_text(())
    ('depth 2', 'depths 1 … 3', 'depths 1, 3, 5', 'depths')
    """
    if len(depths) == 1:
        return f"depth {depths[0]}"
    if depths == tuple(range(depths[0], depths[-1] + 1)) if depths else False:
        return f"depths {number(depths[0])} … {number(depths[-1])}"
    few = depths if len(depths) <= COLUMNS else (*depths[: COLUMNS - 1], "…", depths[-1])
    return " ".join(["depths", ", ".join(map(str, few))]).strip()


def _column_mark(comparison: ComparedGraph | None, node: Node, index: int) -> str:
    """Return whether only one of two models has this copy, or the second has another block in its place."""
    for mark in diffs_of(comparison, [node]):
        if mark.copies:
            before, after = (int(n) for n in mark.copies)  # type: ignore[arg-type]
            return "" if index < min(before, after) else "+ added" if index < after else "− removed"
        whole = [kind for kind in mark.kinds if kind in ("added", "removed", "replaced")]
        return f"{SIGNS[whole[0]][0]} {whole[0]}" if whole else ""
    return ""
