"""Writes a scene as DOT: clusters, nodes, edges, and the ranks and groups that put them in rows and columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import graphviz

from dsvgraph_graphviz.dot.orthogonal import SHARED_STYLE, THIN, OrthogonalEdges
from dsvgraph_graphviz.dot.ranks import heights, ranks, spine
from dsvgraph_graphviz.dot.spacers import add_spacers
from dsvgraph_graphviz.scene.parts import Card, CardShape, Cluster, End, Plan, Scene, Wire, WireKind
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.markup import box, cell, in_attribute, in_label, label, literal, table, words
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.text.losses import Term

GRAPH = {
    "bgcolor": theme.PAPER, "pad": "0.4", "nodesep": "0.26", "ranksep": "0.40",
    "splines": "spline", "newrank": "true", "compound": "true", "fontname": theme.SANS,
    "fontcolor": theme.INK, "labelloc": "t", "labeljust": "l", "tooltip": " ",
}  # fmt: skip
NODE = {"shape": "plain", "fontname": theme.SANS, "fontsize": f"{theme.BODY}", "fontcolor": theme.INK}
EDGE = {
    "color": theme.LINE, "penwidth": "1.5", "arrowsize": "0.75", "fontname": theme.MONO,
    "fontsize": f"{theme.SHAPE}", "fontcolor": theme.MUTED, "tooltip": " ",
}  # fmt: skip
CIRCLE = {
    "shape": "circle", "width": "0.28", "fixedsize": "true", "fontsize": "16", "color": theme.LINE,
    "fontcolor": theme.SLATE.title, "penwidth": "1.5", "style": "filled", "fillcolor": theme.PAPER,
}  # fmt: skip
GONE = {"style": "dashed", "color": theme.ROSE.border}
MARKED = {
    "added": {"color": theme.GREEN.border, "penwidth": "3"}, "removed": GONE,
    "gone": {**GONE, "constraint": "false"}, "rewired": {"color": theme.BLUE.border, "penwidth": "3"},
}  # fmt: skip
INVISIBLE = {"style": "invis", "weight": "0"}
BAR = "2.6"  # inches of the bar over each column
NESTED, OUTER = "18", "24"  # points between a frame and its cards
ASIDE = "28"  # words are lower than rows of tokens and losses, so that the frames end on one line
SIDES = {"BT": ("n", "s"), "TB": ("s", "n"), "LR": ("e", "w")}  # where lines leave a cell, and enter one
STRAIGHT = "100"  # weight of the wires of a spine
NEAR = "8"  # of other wires within a frame
MANY = 3  # readers of a value that stand straight over it
RAISED = 3  # points between words and the line below them


def draw(made: Plan, heading: str, terms: list[Term], sum_label: str) -> graphviz.Digraph:
    """Return the DOT of a scene."""
    return Drawing(made.scene, made.view.direction).build(heading, terms, sum_label)


class Drawing:
    """Writes one scene as DOT. Statements keep the scene's order, so equal models give equal texts."""

    def __init__(self, scene: Scene, direction: str = "BT") -> None:
        self.scene, self.direction = scene, direction
        self.top = "b" if direction == "BT" else "t"  # graphviz turns the names of frames too
        height = heights(scene)
        self.spines = {column: spine(scene, column, height) for column in scene.columns()}
        self.ranks = ranks(scene, self.spines)
        self.group = {
            name: group for column, names in self.spines.items() for name, group in self._groups(column, names)
        }
        self.orthogonal = OrthogonalEdges(scene, height, self.ranks, self.group, turned=direction == "LR")
        add_spacers(self.orthogonal)

    def _groups(self, column: int, names: list[str]) -> Iterator[tuple[str, str]]:
        """Yield each card of a spine with its graphviz group; the group changes at a cell, and after many readers."""
        readers = Counter(w.src.card for w in self.scene.wires if w.kind is WireKind.FLOW)
        stepped = {
            (w.src.card, w.dst.card) for w in self.scene.wires if w.src.port or w.dst.port or readers[w.src.card] > MANY
        }
        steps = 0
        for below, name in zip(["", *names], names, strict=False):
            steps += (below, name) in stepped
            yield name, f"spine {column}.{steps}"

    def build(self, heading: str, terms: list[Term], sum_label: str) -> graphviz.Digraph:
        dot = graphviz.Digraph(
            "model",
            graph_attr={**GRAPH, "rankdir": self.direction, "label": literal(heading)},
            node_attr=NODE,
            edge_attr=EDGE,
        )
        for cluster in sorted((c for c in self.scene.clusters.values() if not c.parent), key=self._column):
            dot.subgraph(self._frame(cluster))
        for wire in self.scene.wires:
            if not self.orthogonal.carries(wire):
                self._wire(dot, wire)
        for edge in self.orthogonal.edges:
            named = {"label": self._words(edge.style["label"])} if edge.style.get("label") else {}
            dot.edge(edge.tail, edge.head, **{**edge.style, **named})
        self._sum(dot, terms, sum_label)
        self._ranks(dot)
        return dot

    # -- frames and cards -------------------------------------------------------------------

    def _column(self, cluster: Cluster) -> int:
        return next((c.column for c in self.scene.cards.values() if c.cluster == cluster.id), 0)

    def _frame(self, cluster: Cluster) -> graphviz.Digraph:
        hue = theme.HUES[cluster.role]
        frame = graphviz.Digraph(f"cluster_{cluster.id}")
        if cluster.name:
            place = "b" if cluster.strand and self.direction == "TB" else self.top  # not where lines come in
            frame.attr(
                label=literal(label(_name(cluster, hue))), labelloc=place,
                labeljust="r" if self._on_the_right(cluster) else "l", style="rounded,filled", fillcolor=hue.frame,
                color=hue.frame_border, penwidth="1.2", peripheries="1", id=cluster.id,
                margin=NESTED if cluster.parent else ASIDE if cluster.aside else OUTER,
                tooltip=in_attribute(cluster.tip or cluster.title),
            )  # fmt: skip
        else:
            frame.attr(label="", peripheries="0", margin="0")
        for card in self.scene.cards.values():
            if card.cluster == cluster.id:
                self._card(frame, card)
        for point in self.orthogonal.bends.get(cluster.id, ()):
            frame.node(
                point.id,
                group=point.group,
                shape="box" if point.width > THIN else "point",
                width=f"{point.width:g}",
                height="0.01",
                color=point.color,
                label="",
            )
        for child in self.scene.clusters.values():
            if child.parent == cluster.id:
                frame.subgraph(self._frame(child))
        return frame

    def _on_the_right(self, cluster: Cluster) -> bool:
        """Whether a frame's name stands on the right: a line enters on the left, where data flows to the right."""
        return cluster.on_the_right or (self.direction == "LR" and cluster.id in self.orthogonal.entered)

    def _card(self, frame: graphviz.Digraph, card: Card) -> None:
        filled = {"fillcolor": card.fill} if card.fill else {}
        more = {**CIRCLE, **filled, **MARKED.get(card.diff, {})} if card.shape is CardShape.CIRCLE else {}
        group = {"group": self.group[card.id]} if card.id in self.group else {}
        tip = in_attribute(card.tip or card.id)
        frame.node(card.id, label=card.label, id=card.id, tooltip=tip, **{"class": card.role.value}, **group, **more)

    # -- wires ------------------------------------------------------------------------------

    def _wire(self, dot: graphviz.Digraph, wire: Wire) -> None:
        style = {"label": self._words(wire.label)} if wire.label else {}
        if self.group.get(wire.src.card) == self.group.get(wire.dst.card, ""):
            style["weight"] = STRAIGHT
        elif self.scene.cards[wire.src.card].cluster == self.scene.cards[wire.dst.card].cluster:
            style["weight"] = NEAR
        style |= SHARED_STYLE if wire.kind is WireKind.ENTERING else MARKED.get(wire.diff, {})
        style["tooltip"] = style["labeltooltip"] = in_attribute(
            f"{wire.name} [{wire.label}]" if wire.label else wire.name or " "
        )
        leave, enter = SIDES[self.direction]
        dot.edge(port(wire.src, leave), port(wire.dst, enter), **style)

    def _words(self, text: str) -> str:
        """Return the words on a line: beside it, or over it where it lies level."""
        return (
            spaced(text) if self.direction != "LR" else label(f"{in_label(text)}<br/>{words(' ', theme.INK, RAISED)}")
        )

    # -- the sum ----------------------------------------------------------------------------

    def _sum(self, dot: graphviz.Digraph, terms: list[Term], sum_label: str) -> None:
        """A bar over all columns that have a loss, with an arrow from each."""
        if not terms:
            return
        hue = theme.HUES[Role.LOSS]
        bar = graphviz.Digraph("cluster_sum")
        bar.attr(
            label=literal(sum_label), labelloc=self.top, labeljust="c", style="rounded,filled", fillcolor=hue.frame,
            color=hue.frame_border, penwidth="1.2", margin="2", id="sum", tooltip="the loss",
        )  # fmt: skip
        for term in terms:
            group = {"group": self.group[term.card]} if term.card in self.group else {}
            bar.node(
                f"sum/{term.card}",
                shape="box",
                width="0.02" if self.direction == "LR" else BAR,
                height="0.8" if self.direction == "LR" else "0.02",
                fixedsize="true",
                style="invis",
                label="",
                **group,
            )
        dot.subgraph(bar)
        for i, term in enumerate(terms):
            dot.edge(
                term.card, f"sum/{term.card}", lhead="cluster_sum", label=self._words(f"× {term.weight}"),
                weight=STRAIGHT, color=hue.border, fontcolor=hue.text, penwidth="1.4" if i else "3.0",
            )  # fmt: skip
        dot.body.append("\t{rank=same; " + " ".join(f'"sum/{t.card}";' for t in terms) + "}\n")

    # -- columns and rows -------------------------------------------------------------------

    def _ranks(self, dot: graphviz.Digraph) -> None:
        for names in self.orthogonal.same_ranks():
            with dot.subgraph() as same:
                same.attr(rank="same")
                for name in names:
                    same.node(name)
        for left, right in self._order():
            pair = (right, left) if self.direction == "LR" else (left, right)  # there a row goes from below
            dot.edge(*pair, **INVISIBLE)

    def _order(self) -> Iterator[tuple[str, str]]:
        """Yield pairs of cards in the lowest and the highest row that keep neighbouring columns in their order."""
        columns = self.scene.columns()
        for left, right in pairwise(columns):
            pairs = [pair for rank in self.ranks if (pair := self._pair(rank, left, right))]
            yield from dict.fromkeys([*pairs[:1], *pairs[-1:]])

    def _pair(self, rank: list[str], left: int, right: int) -> tuple[str, str] | None:
        found = {self.scene.cards[name].column: name for name in rank}
        return (found[left], found[right]) if left in found and right in found else None


def _name(frame: Cluster, hue: theme.Hue) -> str:
    name = words(frame.name, hue.text, theme.BODY, bold=True)
    if not frame.note:
        return name
    note = words(frame.note, hue.text, theme.SMALL, face=theme.MONO)
    return table([cell(text, align="left") for text in (name, note)], border=0, cellspacing=0, cellpadding=0)


def port(end: End, side: str) -> str:
    """Return the end of an edge: a card, or the side of a cell."""
    return f"{end.card}:{end.port}:{side}" if end.port else end.card


def spaced(text: str, longest: int = 26) -> str:
    """Return the words on a line, a little off it; long ones size by size under each other."""
    lines = [""]
    for size in re.split(r"(?<=,)(?![^(]*\))", text):
        if lines[-1] and len(lines[-1] + size) > longest:
            lines.append("")
        lines[-1] += size
    lines = [in_attribute(line) for line in lines]
    return f"  {lines[0]}" if len(lines) == 1 else "".join(f"  {line}\\l" for line in lines)


def failure(text: str) -> str:
    """Return the DOT of a message, as it stands in a terminal."""
    rows = [cell(_still(line), align="left") for line in text.splitlines()]
    dot = graphviz.Digraph("error", graph_attr={"bgcolor": theme.PAPER, "pad": "0.4"}, node_attr=NODE)
    dot.node("error", label=label(box(rows, theme.ROSE, cellpadding=2)))
    return str(dot.source)


def _still(line: str) -> str:
    """Return a line of code with all its spaces kept."""
    start, _, rest = words(line or " ", theme.ROSE.title, 12, face=theme.MONO).partition(">")
    return f"{start}>{rest.replace(' ', '&#160;')}"
