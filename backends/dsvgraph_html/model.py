"""The model as the page has it: its first picture, and each distinct block once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dsvgraph.backends import View
from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Mode, Model, Node, Ref, join, span_text
from dsvgraph.types import ElementType
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.copies import has_body, kinds
from dsvgraph_graphviz.model.layers import attentions
from dsvgraph_graphviz.model.shares import NAMES
from dsvgraph_graphviz.scene import Card, CardShape, Cluster, Container, End, Plan, Scene, SceneBuilder, plan, score
from dsvgraph_graphviz.style import cards
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.style.words import cut, tokens
from dsvgraph_graphviz.text.heading import lines, title
from dsvgraph_graphviz.text.losses import sum_label, term_card
from dsvgraph_graphviz.text.titles import block_title
from dsvgraph_html.details import loss_details, node_details
from dsvgraph_html.picture import BADGE, Picture, as_data

SPANS = 6  # that the address of one kind of copies names before it skips to the last


def page_data(model: Model, view: View | None = None) -> dict[str, Any]:
    """Return the model for the page: ``pictures[0]`` is the model, the others are the blocks that cards open.

    A card has the facts of its line (`node_details`), its ``path`` (of a block's cards below the block's own) and
    ``opens``: for each kind of copies the number of its picture, the address of the copies and their number. A card
    that is ``aside`` speaks of a line whose box is another card; ``parts`` are the lines that share a box.
    ``view`` says which shapes, weights and colours the cards have; what is open is the reader's affair.
    """
    view = replace(view or View(), depth=1, focus="", expand=())
    made = plan(model, view)
    terms = score(made)
    found = _Pictures(made.analysis, view)
    whole = found.whole(made, terms)
    pictures = [whole]
    while len(pictures) <= len(found.order):
        pictures.append(found.block(found.order[len(pictures) - 1]))
    totals, added = lines(made)
    shade = [f"coloured by the share of {NAMES[view.heat]} in a frame"] if view.heat else []
    return {"name": title(made), "totals": " · ".join([totals, *shade]), "added": added, "pictures": pictures}


class _Pictures:
    """The pictures of one model; ``order`` are the blocks in the order of their numbers, from 1."""

    def __init__(self, analysis: Analysis, view: View) -> None:
        self.analysis, self.model, self.view = analysis, analysis.model, view
        self.order: list[Graph] = []
        self.weight_inputs: dict[Graph, set[str]] = {}  # inputs of blocks that are weights of lines outside
        self.owners = {id(n): (g, n) for g in (*analysis.model.graphs(), analysis.model) for n in g.nodes.values()}

    # -- the model ----------------------------------------------------------------------------

    def whole(self, made: Plan, terms: list[Any]) -> dict[str, Any]:
        """Return the first picture: columns, losses, and the most repeated block beside them."""
        found = self._picture(made.scene, self._shown(made.scene), terms, sum_label(self.model, terms))
        found["cards"] |= self._losses(made.scene)
        return found

    def _losses(self, scene: Scene) -> dict[str, Any]:
        """Return the cards of the terms of the loss, which are lines of the spec and no nodes."""
        terms = {term_card(loss, depth): (loss, depth) for loss in self.model.losses for depth in loss.depths}
        path = {"path": "", "role": Role.LOSS.value}
        return {id_: {**loss_details(*terms[id_]), **path} for id_ in scene.cards if id_ in terms}

    def _shown(self, scene: Scene) -> dict[str, tuple[Graph, Node]]:
        """The lines that the cards of a scene stand for; a card that is the box of none speaks of the line it is named
        like: the scores of an attention, a value that decoding keeps."""
        found = {c.id: self.owners[id(c.nodes[0])] for c in scene.cards.values() if c.nodes}
        bodies = {body.id.rstrip("/"): body.graph for body in scene.bodies}
        for card in scene.cards.values():
            place, _, name = card.id.partition("/")
            graph, name = bodies.get(place), name.partition("/")[0]
            if card.id not in found and graph is not None and name in graph.nodes:
                found[card.id] = graph, graph.nodes[name]
        return found

    # -- a block ------------------------------------------------------------------------------

    def block(self, graph: Graph) -> dict[str, Any]:
        """Return one block in a frame, with what enters and leaves it as words on its edges."""
        made = Plan(self.model, self.analysis, self.view, self.model)
        layer, role = self.analysis.roles.is_layer_body(graph), self.analysis.roles.of_graph(graph)
        frame = Cluster(id="main", title=block_title(graph, self.analysis), role=role, badge=BADGE)
        made.scene.clusters["main"] = frame
        inside = Container(cluster="main", id="main/", role=role, named=not layer or bool(attentions(graph)))
        ins = {port: self._enters(made.scene, graph, port, inside) for port in graph.inputs}
        ends = SceneBuilder(made).body(graph, ins, inside)
        for name, ref in graph.outputs.items():
            if ref in ends:
                _word(made.scene, inside, f"out-{name}", name)
                made.scene.wire(ends[ref], End(f"main/out-{name}"), made.shapes.of(graph, ref), str(ref))
        return self._picture(made.scene, self._shown(made.scene), [], "")

    def _enters(self, scene: Scene, graph: Graph, port: str, inside: Container) -> End:
        type_ = graph.inputs[port]
        is_row = type_.dtype is ElementType.INT and type_.rank == 2
        _word(scene, inside, f"in-{port}", port, cards.tokens(tokens(0)) if is_row else "")
        return End(f"main/in-{port}", "", 0 if is_row else None, port in self.weight_inputs.get(graph, ()))

    # -- cards --------------------------------------------------------------------------------

    def _picture(
        self, scene: Scene, shown: Mapping[str, tuple[Graph, Node]], terms: list[Any], label: str
    ) -> dict[str, Any]:
        facts = {id_: self._card(scene.cards[id_], *line) for id_, line in shown.items()}
        nodes = {id_: node for id_, (_, node) in shown.items()}
        data = as_data(Picture(scene, nodes, _ports(scene, nodes)), terms, label)
        return {**data, "cards": facts}

    def _card(self, card: Card, graph: Graph, node: Node) -> dict[str, Any]:
        path = card.tip.split("\n")[0]
        path = path.removesuffix(".*") if node.mode is not Mode.CALL else path
        path = "" if path == node.name and not node.at else path  # a tip has some word for every line
        found = {
            **node_details(self.analysis, graph, node),
            "path": path,
            "role": card.role.value,
            **({} if card.nodes else {"aside": True}),
            **self._parts(card, graph, path),
        }
        return {**found, "opens": self._opens(graph, node)} if node.copies and has_body(node) else found

    def _parts(self, card: Card, graph: Graph, path: str) -> dict[str, Any]:
        """Return the lines that are drawn inside the card of another: norms in its cells, a concat, a split."""
        around = path.removesuffix(card.nodes[0].at).removesuffix(".") if card.nodes else ""
        parts = [{**node_details(self.analysis, graph, line), "path": join(around, line.at)} for line in card.nodes[1:]]
        return {"parts": parts} if parts else {}

    def _opens(self, graph: Graph, node: Node) -> list[dict[str, Any]]:
        found = []
        for copies in kinds(node):
            self._lend(graph, node, copies.graph)
            if copies.graph not in self.order:
                self.order.append(copies.graph)
            spans = _spans(node, copies.graph) if node.mode is not Mode.CALL else []
            found.append({"picture": self.order.index(copies.graph) + 1, **_copies(node, copies.count, spans)})
        return found

    def _lend(self, graph: Graph, node: Node, inner: Graph) -> None:
        for port, ref in node.inputs.items():
            source = graph.nodes.get(ref.node)
            if ref.node in self.weight_inputs.get(graph, ()) or (source is not None and ref.port in source.weights):
                self.weight_inputs.setdefault(inner, set()).add(port)


def _word(scene: Scene, inside: Container, id_: str, name: str, label: str = "") -> None:
    """What enters or leaves a block, as a word on its edge."""
    key, shape = id_.partition("-")[0], CardShape.CARD if label else CardShape.TEXT
    role = Role.TOKENS if label else Role.PLAIN
    scene.add(inside.card(id_, label or cards.text(cut(name)), role, key, shape=shape))


def _ports(scene: Scene, nodes: Mapping[str, Node]) -> dict[int, tuple[str, str]]:
    """Return the output and the input of its two lines that each wire joins, by the value's name."""
    found = {}
    wired: dict[str, list[str]] = {}
    for wire in scene.wires:
        leaves = _named({p: Ref(n.name, p) for n in [nodes[wire.src.card]] for p in n.outputs}, wire.name) \
            if wire.src.card in nodes else ""  # fmt: skip
        taken = wired.setdefault(wire.dst.card, [])
        inputs = nodes[wire.dst.card].inputs if wire.dst.card in nodes else {}
        enters = _named({p: ref for p, ref in inputs.items() if p not in taken}, wire.name)
        taken.append(enters)
        found[id(wire)] = leaves, enters
    return found


def _named(ports: Mapping[str, Ref], name: str) -> str:
    """Return the port of the value ``name``, else the first."""
    return next((port for port, ref in ports.items() if str(ref) == name), next(iter(ports), ""))


# -- addresses of copies --------------------------------------------------------------------------


def _spans(node: Node, graph: Graph) -> list[tuple[Size, Size]]:
    """First number and count of every group of equal copies."""
    found, start = [], node.start
    for copies in node.stored:
        if copies.graph is graph:
            found.append((start, copies.count))
        start = start + copies.count
    return found


def _copies(node: Node, count: Size, spans: list[tuple[Size, Size]]) -> dict[str, Any]:
    """Return how a path names the copies of one kind, their numbers, and how many they are."""
    if node.mode is Mode.CALL:
        return {"at": "", "badge": ""}
    texts = [span_text(*span)[1:-1] for span in spans]
    texts = texts if len(texts) <= SPANS else [*texts[: SPANS - 2], "…", texts[-1]]
    badge = f"× {count:,}" if isinstance(count, int) else f"× {count}"
    badge += ", one set of weights" if node.reused else ""
    ranges = [[a, a + n - 1] for a, n in spans if isinstance(a, int) and isinstance(n, int)]
    return {"at": f"[{','.join(texts)}]", "badge": badge, "ranges": ranges}
