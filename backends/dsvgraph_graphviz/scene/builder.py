"""Draws bodies into a scene: every node becomes a card, a circle, or a frame with its own body inside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dsvgraph.graph import Graph, Mode, Node, Ref, join
from dsvgraph.ops.decoding import Past
from dsvgraph.types import ElementType
from dsvgraph_graphviz.model.comparison import NodeDiff, diffs_of
from dsvgraph_graphviz.model.copies import MANY_GROUPS, groups_of, has_body, kinds
from dsvgraph_graphviz.model.layers import outward, strands
from dsvgraph_graphviz.model.merge import InputCell, MergedNode, merged_nodes, out_port
from dsvgraph_graphviz.scene.parts import CardShape, Cluster, Container, End, Ends, Plan
from dsvgraph_graphviz.style import cards
from dsvgraph_graphviz.style.markup import as_id
from dsvgraph_graphviz.style.theme import Role
from dsvgraph_graphviz.style.words import cut, number, spot, times, tokens
from dsvgraph_graphviz.text.labels import Labels


class SceneBuilder:
    """Fills the scene of a plan; the nodes in ``expanded`` are opened where they stand."""

    def __init__(self, made: Plan, expanded: Collection[Node] = ()) -> None:
        self.analysis, self.scene, self.shapes, self.view = made.analysis, made.scene, made.shapes, made.view
        self.comparison = made.comparison
        self.labels, self.expanded = Labels(made.analysis, made.view), expanded

    def body(self, graph: Graph, ins: dict[str, End], inside: Container, skip: Collection[str] = ()) -> Ends:
        """Draw the nodes of ``graph`` but ``skip``; return where its values and weights end."""
        self.scene.bodies.append(inside.body(graph))
        ends: Ends = {Ref(name, name): end for name, end in ins.items()}
        places, kept = self._strands(graph, inside), self.analysis.decoding_cache.values(graph)
        for name in graph.inputs:
            self._cached(graph, Ref(name, name), kept, ends, inside)
        for card in merged_nodes(graph, kept):
            if card.node.name not in skip:
                around = places.get(card.node.name, inside)
                self.card(graph, card, ends, around)
                for ref in [Ref(card.last.name, output) for output in card.last.outputs]:
                    self._cached(graph, ref, kept, ends, around)
        return ends

    def _strands(self, graph: Graph, inside: Container) -> dict[str, Container]:
        """Return containers of the nodes that only queries, or only keys and values, are made of; a frame for each."""
        queries, keys = strands(graph)
        framed = inside.named and min(len(queries), len(keys)) > 1
        found = {}
        for names, title, role in ((queries, "Query", Role.ATTENTION), (keys, "Key and value", Role.KEYS)):
            word = title.split()[0].lower()
            word = f"{word}-strand" if word in graph.nodes and graph.nodes[word].copies else word
            id_ = f"{inside.id}{word}" if framed else inside.cluster
            if framed:
                self.scene.clusters[id_] = Cluster(id=id_, title=title, role=role, parent=inside.cluster, strand=True)
            found.update(dict.fromkeys(names, replace(inside, cluster=id_, role=role)))
        return {**dict.fromkeys(outward(graph), replace(inside, role=Role.ATTENTION)), **found}

    def card(self, graph: Graph, card: MergedNode, ends: Ends, inside: Container) -> None:
        """Draw one node with what is merged into it; note in ``ends`` where its outputs end."""
        node = card.node
        if not node.op and not node.copies:  # no copies: what is carried passes by
            ends.update({Ref(node.name, p): ends[node.inputs[p]] for p in node.outputs if p in node.inputs})
        elif ahead := _moved_tokens(node, ends):
            self._tokens(node, ends, inside, ahead)
        elif node.op and node.op.drawn.sign and len(node.inputs) > 1 and not card.wide:
            self._circle(graph, card, ends, inside)
        elif node in self.expanded and has_body(node):
            self._open(graph, node, ends, inside)
        elif node.callee == "attention" and node.op and inside.named:
            self._attention(graph, card, ends, inside)
        else:
            card.below.sort(key=lambda c: self._comes_from_here(c, ends, inside))
            self._put(graph, card, ends, inside, self._label(graph, card, inside))

    def _comes_from_here(self, cell: InputCell, ends: Ends, inside: Container) -> bool:
        """Return whether a value comes from this column; one from another column enters on the left."""
        return cell.ref not in ends or self.scene.cards[ends[cell.ref].card].column == inside.column

    # -- cards ------------------------------------------------------------------------------

    def _label(self, graph: Graph, card: MergedNode, inside: Container) -> str:
        role = self.analysis.roles.of(card.node, inside.role)
        return self.labels.of(graph, card, role, inside.named, self._diffs(card))

    def _diffs(self, card: MergedNode) -> list[NodeDiff]:
        """Return what differs at the nodes that a card shows."""
        return diffs_of(self.comparison, card.nodes)

    def _circle(self, graph: Graph, card: MergedNode, ends: Ends, inside: Container) -> None:
        """Draw a sum or a product: what it would say on a card, its tooltip says."""
        fill = self.labels.hue(graph, card.nodes, Role.PLAIN).fill if self.labels.heat else ""
        diff = next((kind for diff in self._diffs(card) for kind in diff.kinds), "")
        tip = "\n".join([self._tip(card, inside), *self.labels.share(graph, card.nodes)])
        label = card.node.op.drawn.sign if card.node.op else ""
        self._put(graph, card, ends, inside, label, shape=CardShape.CIRCLE, tip=tip, fill=fill, diff=diff)

    @staticmethod
    def _tip(card: MergedNode, inside: Container) -> str:
        return tooltip(card.node, inside, card.nodes[1:])

    def _put(self, graph: Graph, card: MergedNode, ends: Ends, inside: Container, label: str, **more: Any) -> None:
        """Draw one card with the wires into it; note where its outputs and weights end."""
        node = card.node
        role, more = self.analysis.roles.of(node, inside.role), {"tip": self._tip(card, inside), **more}
        self.scene.add(inside.card(node.name, label, role, id(node), body=inside.id, nodes=card.nodes, **more))
        self._wires(graph, card, ends, inside)
        ends.update(_leaving(card, inside.id + node.name))

    def _wires(self, graph: Graph, card: MergedNode, ends: Ends, inside: Container) -> None:
        """Draw the wires into one card: its inputs, its tied weights, and those that only the first model has."""
        id_, diffs = inside.id + card.node.name, self._diffs(card)
        removed = [kind for diff in diffs for kind in diff.kinds][:1] == ["removed"]
        here = [c.port for c in card.below if self._comes_from_here(c, ends, inside)]
        cells = here if len(here) > 1 else []  # a single wire from below stays in the middle
        for port, ref in known(card.drawn, ends):
            new = "removed" if removed else "added" if any(port in diff.fresh for diff in diffs) else ""
            shape, times = self.shapes.of(graph, ref), card.times(ref)
            shape = f"{shape} × {number(times)}".strip() if times > 1 else shape
            self.scene.wire(ends[ref], End(id_, port if port in cells else ""), shape, str(ref), new)
        for _, ref in known(card.node.tied, ends):
            self.scene.wire(ends[ref], End(id_), name=str(ref))
        for _, ref in known({p: r for diff in diffs for p, r in diff.gone.items()}, ends):
            self.scene.wire(ends[ref], End(id_), "", f"was {ref}", "gone")

    def _cached(self, graph: Graph, ref: Ref, kept: Mapping[Ref, Past], ends: Ends, inside: Container) -> None:
        """Draw a card of its own for a value that decoding keeps."""
        if ref not in kept or ref not in ends:
            return
        node, name = graph.nodes.get(ref.node), f"{ref.node}/{as_id(ref.port)}-kept"
        last = "" if (rows := kept[ref]).last is None else f", the last {number(rows.last)}"
        several = node is not None and len(node.outputs) > 1
        label = cards.cached(cut(ref.port if several else ref.node), last)
        role = self.analysis.roles.of(node, inside.role) if node else inside.role
        self.scene.add(inside.card(name, label, role, "kept", tip=tooltip(node, inside) if node else ref.node))
        self.scene.wire(ends[ref], End(inside.id + name), self.shapes.of(graph, ref), str(ref))
        ends[ref] = End(inside.id + name, "", ends[ref].ahead)

    def _attention(self, graph: Graph, card: MergedNode, ends: Ends, inside: Container) -> None:
        """Draw an attention as two cards: the scores of queries and keys, and the values that they weigh."""
        node = card.node
        scores, values = f"{inside.id}{node.name}/scores", inside.id + node.name
        role = self.analysis.roles.of(node, inside.role)
        diffs = diffs_of(self.comparison, [node])
        first, second = self.labels.attention(graph, node, diffs)
        tip = tooltip(node, inside)
        for name, label, nodes in ((f"{node.name}/scores", first, ()), (node.name, second, (node,))):
            key = inside.id + name
            self.scene.add(inside.card(name, label, role, key, tip=tip, body=inside.id, nodes=nodes))
        for port, ref in known(node.inputs, ends):
            end = End(values if port == "v" else scores, port)
            self.scene.wire(ends[ref], end, self.shapes.of(graph, ref), str(ref))
        self.scene.wire(End(scores), End(values, "weights"), self.shapes.scores(graph, node), "attention weights")
        ends.update(_leaving(card, values))

    def _tokens(self, node: Node, ends: Ends, inside: Container, ahead: int) -> None:
        """Draw a shifted row of tokens; no wire leads to it from the row of another column."""
        source, id_ = ends[next(iter(node.inputs.values()))], inside.id + node.name
        label, tip = cards.tokens(tokens(ahead)), tooltip(node, inside)
        self.scene.add(inside.card(node.name, label, Role.TOKENS, "tokens", tip=tip, body=inside.id, nodes=(node,)))
        if self.scene.cards[source.card].column == inside.column:
            self.scene.wire(source, End(id_), f"{ahead} ahead")
        ends[Ref(node.name, node.first)] = End(id_, "", ahead)

    # -- open blocks ------------------------------------------------------------------------

    def _open(self, graph: Graph, node: Node, ends: Ends, inside: Container) -> None:
        state = {port: ends[ref] for port, ref in known(node.inputs, ends)}
        for i, copies in enumerate(kinds(node)):
            alike = (i,) if len(node.copies) <= MANY_GROUPS else groups_of(node, copies.graph)
            inner = replace(inside, node=node, within=inside.id, groups=alike, copy=None)
            one = replace(node, copies=(copies,), count=copies.count)
            outs = self._frame(graph, one, state, inner, f"-{i + 1}" if i else "")
            state |= {port: end for port, end in outs.items() if port in node.carried}
            ends.update({Ref(node.name, port): end for port, end in outs.items()})

    def _frame(self, graph: Graph, node: Node, state: dict[str, End], inside: Container, suffix: str) -> dict[str, End]:
        """Draw one open block in a frame of its own; return where its outputs end."""
        role, id_ = self.analysis.roles.of(node, inside.role), inside.id + node.name + suffix
        once = node.mode is Mode.CALL
        title = self.labels.title(graph, node, role)
        badge = "" if once else times(node)
        self.scene.clusters[id_] = Cluster(
            id=id_, title=title, role=role, parent=inside.cluster, badge=badge, tip=tooltip(node, inside)
        )
        path = join(inside.path, node.at, "" if once else "*")
        inner = replace(inside, cluster=id_, id=f"{id_}/", path=path, role=role, named=True)
        block = node.copies[0].graph
        ends = self.body(block, {port: self._entry(block, port, end, inner) for port, end in state.items()}, inner)
        return {name: ends[ref] for name, ref in block.outputs.items()}

    def _entry(self, graph: Graph, port: str, end: End, inside: Container) -> End:
        """Return where an input enters a block: at a word of its own if several nodes read it."""
        readers = graph.net.out_degree(port) if port in graph.net else 0
        type_ = graph.inputs[port]
        if readers < 2 or type_.dtype is not ElementType.FLOAT or end.ahead is not None or end.weight:
            return end
        id_ = inside.id + port
        key = (id(graph), port)
        self.scene.add(inside.card(port, cards.text(cut(port)), Role.PLAIN, key, shape=CardShape.TEXT))
        self.scene.wire(end, End(id_), self.shapes.of(graph, Ref(port, port)))
        return End(id_)


def known(inputs: dict[str, Ref], ends: Ends) -> list[tuple[str, Ref]]:
    """Return the inputs whose source is drawn; the stacked output of no copies has none."""
    return [(port, ref) for port, ref in inputs.items() if ref in ends]


def _moved_tokens(node: Node, ends: Ends) -> int:
    """Return how far ahead a shifted row of tokens is; 0 if the node shifts no tokens."""
    if not (node.op and node.op.drawn.view and node.op.positions.along):
        return 0
    end = ends.get(next(iter(node.inputs.values())))
    return end.ahead + int(node.op.shift()) if end and end.ahead is not None else 0


def _leaving(card: MergedNode, id_: str) -> Ends:
    cells = {cell.port for cell in card.above}
    found = {Ref(card.last.name, o): End(id_, out_port(o) if out_port(o) in cells else "") for o in card.last.outputs}
    return found | {Ref(card.node.name, weight): End(id_, weight=True) for weight in card.node.weights}


def tooltip(node: Node, inside: Container, others: Sequence[Node] = ()) -> str:
    """Return the path of a node, what it calls, its line of the spec, and which ``others`` are drawn in its card."""
    path = join(inside.path, node.at, "" if node.mode is Mode.CALL else "*")
    more = f"with {', '.join(other.name for other in others)}" if others else ""
    return "\n".join(part for part in (path or node.name, node.callee, spot(node.span), more) if part)
