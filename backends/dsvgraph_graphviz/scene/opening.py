"""Opens bodies: every node becomes a card, a circle, or a frame with its own body inside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dsvgraph.graph import Graph, Mode, Node, Ref, join
from dsvgraph.ops.decoding import Past
from dsvgraph_graphviz.model.copies import MANY_GROUPS, groups_of, has_body, kinds
from dsvgraph_graphviz.model.layers import outward, strands
from dsvgraph_graphviz.model.merge import Fused, InputCell, fused, out_port
from dsvgraph_graphviz.model.union import Mark, marks_of
from dsvgraph_graphviz.scene.parts import Body, Card, Cluster, End, Ends, Plan
from dsvgraph_graphviz.style import cards
from dsvgraph_graphviz.style.markup import as_id
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.style.words import cut, number, spot, times, tokens
from dsvgraph_graphviz.text.labels import Labels

CIRCLES = {"add": "+", "mul": "×"}


@dataclass(frozen=True)
class Place:
    """Where a body is drawn: its column and frame, the prefix of its ids and paths.

    ``role`` is the body's own; in a ``named`` body cards carry the names of its lines. ``line`` is what it is
    the inside of, as `scene.Body` has it.
    """

    column: int
    cluster: str
    id: str
    path: str
    role: Role = Role.PLAIN
    named: bool = False
    line: Node | None = None
    within: str = ""
    groups: tuple[int, ...] = (0,)
    copy: int | None = None


class Opener:
    """Fills a scene from the graphs of one model; the nodes in ``expanded`` are opened where they stand."""

    def __init__(self, made: Plan, expanded: Collection[Node] = ()) -> None:
        self.facts, self.scene, self.shapes, self.view = made.facts, made.scene, made.shapes, made.view
        self.union = made.union
        self.labels, self.expanded = Labels(made.facts, made.view), expanded

    def body(self, graph: Graph, ins: dict[str, End], place: Place, skip: Collection[str] = ()) -> Ends:
        """Draws the nodes of ``graph``; the ends of all its values and weights."""
        self.scene.bodies.append(
            Body(graph, place.id, place.cluster, place.line, place.within, place.groups, place.copy)
        )
        ends: Ends = {Ref(name, name): end for name, end in ins.items()}
        places, kept = self._strands(graph, place), self.facts.keeping.values(graph)
        for name in graph.inputs:
            self._cached(graph, Ref(name, name), kept, ends, place)
        for card in fused(graph, kept):
            if card.node.name not in skip:
                around = places.get(card.node.name, place)
                self.card(graph, card, ends, around)
                for ref in [Ref(card.last.name, output) for output in card.last.outputs]:
                    self._cached(graph, ref, kept, ends, around)
        return ends

    def _strands(self, graph: Graph, place: Place) -> dict[str, Place]:
        """Places of the nodes that only queries, or only keys and values, are made of; in a frame each."""
        queries, keys = strands(graph)
        framed = place.named and min(len(queries), len(keys)) > 1
        found = {}
        for names, title, role in ((queries, "Query", Role.ATTENTION), (keys, "Key and value", Role.KEYS)):
            word = title.split()[0].lower()
            word = f"{word}-strand" if word in graph.nodes and graph.nodes[word].copies else word
            id_ = f"{place.id}{word}" if framed else place.cluster
            if framed:
                self.scene.clusters[id_] = Cluster(id_, title, role, place.cluster, strand=True)
            found.update(dict.fromkeys(names, replace(place, cluster=id_, role=role)))
        return {**dict.fromkeys(outward(graph), replace(place, role=Role.ATTENTION)), **found}

    def card(self, graph: Graph, card: Fused, ends: Ends, place: Place) -> None:
        """Draws one node, and what is fused with it."""
        node = card.node
        if not node.op and not node.copies:  # no copies: what is carried passes by
            ends.update({Ref(node.name, p): ends[node.inputs[p]] for p in node.outputs if p in node.inputs})
        elif ahead := _moved_tokens(node, ends):
            self._tokens(node, ends, place, ahead)
        elif node.callee in CIRCLES and node.op and len(node.inputs) > 1 and not card.wide:
            self._put(graph, card, ends, place, CIRCLES[node.callee], "circle")
        elif node in self.expanded and has_body(node):
            self._open(graph, node, ends, place)
        elif node.callee == "attention" and node.op and place.named:
            self._attention(graph, card, ends, place)
        else:
            card.below.sort(key=lambda c: self._comes_from_here(c, ends, place))
            self._put(graph, card, ends, place, self._label(graph, card, place))

    def _comes_from_here(self, cell: InputCell, ends: Ends, place: Place) -> bool:
        """What another column hands on arrives on the left."""
        return cell.ref not in ends or self.scene.cards[ends[cell.ref].card].column == place.column

    # -- cards ------------------------------------------------------------------------------

    def _label(self, graph: Graph, card: Fused, place: Place) -> str:
        role = self.facts.roles.of(card.node, place.role)
        return self.labels.of(graph, card, role, place.named, self._marks(card))

    def _marks(self, card: Fused) -> list[Mark]:
        """What differs at the nodes that a card shows."""
        return marks_of(self.union, card.lines)

    def _put(self, graph: Graph, card: Fused, ends: Ends, place: Place, label: str, form: str = "card") -> None:
        """One card, the wires into it, and the ends that leave it."""
        node = card.node
        role = self.facts.roles.of(node, place.role)
        id_ = place.id + node.name
        marks = self._marks(card)
        mark = next((kind for mark in marks for kind in mark.kinds), "")
        said, fill = tip(node, place, card.lines[1:]), ""
        if form == "circle":  # it has no room for words
            said = "\n".join([said, *self.labels.share(graph, card.lines)])
            fill = self.labels.hue(graph, card.lines, Role.PLAIN).fill if self.labels.heat else ""
        self.scene.add(
            Card(id_, label, place.column, place.cluster, role, id(node), said, form, mark, fill, place.id, card.lines)
        )
        here = [c.port for c in card.below if self._comes_from_here(c, ends, place)]
        cells = here if len(here) > 1 else []  # a single wire from below stays in the middle
        for port, ref in known(card.drawn, ends):
            end = End(id_, port if port in cells else "")
            fresh = mark if mark == "removed" else "added" if any(port in m.fresh for m in marks) else ""
            shape, times = self.shapes.of(graph, ref), card.times(ref)
            shape = f"{shape} × {number(times)}".strip() if times > 1 else shape
            self.scene.wire(ends[ref], end, shape, str(ref), fresh)
        for _, ref in known(node.tied, ends):
            self.scene.wire(ends[ref], End(id_), name=str(ref))
        for _, ref in known({p: r for m in marks for p, r in m.gone.items()}, ends):
            self.scene.wire(ends[ref], End(id_), "", f"was {ref}", "gone")
        ends.update(_leaving(card, id_))

    def _cached(self, graph: Graph, ref: Ref, kept: Mapping[Ref, Past], ends: Ends, place: Place) -> None:
        """A card of its own for a value that decoding keeps."""
        if ref not in kept or ref not in ends:
            return
        node, id_ = graph.nodes.get(ref.node), f"{place.id}{ref.node}/{as_id(ref.port)}-kept"
        last = "" if (rows := kept[ref]).last is None else f", the last {number(rows.last)}"
        several = node is not None and len(node.outputs) > 1
        label = cards.cached(cut(ref.port if several else ref.node), last)
        said = tip(node, place) if node else ref.node
        role = self.facts.roles.of(node, place.role) if node else place.role
        self.scene.add(Card(id_, label, place.column, place.cluster, role, "kept", said))
        self.scene.wire(ends[ref], End(id_), self.shapes.of(graph, ref), str(ref))
        ends[ref] = End(id_, "", ends[ref].ahead)

    def _attention(self, graph: Graph, card: Fused, ends: Ends, place: Place) -> None:
        """Two cards: the scores of queries and keys, and what they weigh."""
        node = card.node
        scores, values = f"{place.id}{node.name}/scores", place.id + node.name
        role = self.facts.roles.of(node, place.role)
        marks = marks_of(self.union, [node])
        first, second = self.labels.attention(graph, node, marks)
        for id_, label, lines in ((scores, first, ()), (values, second, (node,))):
            self.scene.add(
                Card(id_, label, place.column, place.cluster, role, id_, tip(node, place), body=place.id, lines=lines)
            )
        for port, ref in known(node.inputs, ends):
            end = End(values if port == "v" else scores, port)
            self.scene.wire(ends[ref], end, self.shapes.of(graph, ref), str(ref))
        self.scene.wire(End(scores), End(values, "weights"), self.shapes.scores(graph, node), "attention weights")
        ends.update(_leaving(card, values))

    def _tokens(self, node: Node, ends: Ends, place: Place, ahead: int) -> None:
        """A row of tokens further on; the row that it comes from is not wired to it across columns."""
        source, id_ = ends[node.inputs["x"]], place.id + node.name
        label = cards.tokens(tokens(ahead))
        said = tip(node, place)
        self.scene.add(
            Card(id_, label, place.column, place.cluster, Role.TOKENS, "tokens", said, body=place.id, lines=(node,))
        )
        if self.scene.cards[source.card].column == place.column:
            self.scene.wire(source, End(id_), f"{ahead} ahead")
        ends[Ref(node.name, node.first)] = End(id_, "", ahead)

    # -- open blocks ------------------------------------------------------------------------

    def _open(self, graph: Graph, node: Node, ends: Ends, place: Place) -> None:
        state = {port: ends[ref] for port, ref in known(node.inputs, ends)}
        for i, copies in enumerate(kinds(node)):
            alike = (i,) if len(node.copies) <= MANY_GROUPS else groups_of(node, copies.graph)
            inner = replace(place, line=node, within=place.id, groups=alike, copy=None)
            one = replace(node, copies=(copies,), count=copies.count)
            outs = self._frame(graph, one, state, inner, f"-{i + 1}" if i else "")
            state |= {port: end for port, end in outs.items() if port in node.carried}
            ends.update({Ref(node.name, port): end for port, end in outs.items()})

    def _frame(self, graph: Graph, node: Node, state: dict[str, End], place: Place, suffix: str) -> dict[str, End]:
        """One open block in a frame of its own; the ends of its outputs."""
        role, id_ = self.facts.roles.of(node, place.role), place.id + node.name + suffix
        once = node.mode is Mode.CALL
        title = self.labels.title(graph, node, role)
        badge = "" if once else times(node)
        self.scene.clusters[id_] = Cluster(id_, title, role, place.cluster, badge, tip(node, place))
        path = join(place.path, node.at, "" if once else "*")
        inner = replace(place, cluster=id_, id=f"{id_}/", path=path, role=role, named=True)
        block = node.copies[0].graph
        ends = self.body(block, {port: self._entry(block, port, end, inner) for port, end in state.items()}, inner)
        return {name: ends[ref] for name, ref in block.outputs.items()}

    def _entry(self, graph: Graph, port: str, end: End, place: Place) -> End:
        """Where an input comes in: a word of its own where several nodes read it."""
        readers = graph.net.out_degree(port) if port in graph.net else 0
        type_ = graph.inputs[port]
        if readers < 2 or type_.dtype != "float" or end.ahead is not None or end.weight:
            return end
        id_ = place.id + port
        self.scene.add(
            Card(
                id_,
                cards.text(cut(port)),
                place.column,
                place.cluster,
                Role.PLAIN,
                (id(graph), port),
                shape="text",
            )
        )
        self.scene.wire(end, End(id_), self.shapes.of(graph, Ref(port, port)))
        return End(id_)


def known(inputs: dict[str, Ref], ends: Ends) -> list[tuple[str, Ref]]:
    """The inputs that come from somewhere: what no copy stacks is nowhere."""
    return [(port, ref) for port, ref in inputs.items() if ref in ends]


def _moved_tokens(node: Node, ends: Ends) -> int:
    """How far on a shifted row of tokens is; 0 where the node shifts no tokens."""
    end = ends.get(node.inputs["x"]) if node.callee == "shift" and node.op else None
    return end.ahead + int(node.op.shift()) if end and end.ahead is not None and node.op else 0


def _leaving(card: Fused, id_: str) -> Ends:
    cells = {cell.port for cell in card.above}
    found = {Ref(card.last.name, o): End(id_, out_port(o) if out_port(o) in cells else "") for o in card.last.outputs}
    return found | {Ref(card.node.name, weight): End(id_, weight=True) for weight in card.node.weights}


def tip(node: Node, place: Place, others: Sequence[Node] = ()) -> str:
    """The path of a node, what it is, the line of the spec that says so, and which ``others`` are in its box."""
    path = join(place.path, node.at, "" if node.mode is Mode.CALL else "*")
    more = f"with {', '.join(other.name for other in others)}" if others else ""
    return "\n".join(part for part in (path or node.name, node.callee, spot(node.span), more) if part)
