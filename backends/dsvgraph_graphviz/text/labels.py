"""The labels of cards: a title in bold and captions under it, by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from dsvgraph.backends import View
from dsvgraph.dims import Poly, Size
from dsvgraph.graph import Graph, Mode, Node, join
from dsvgraph.ops.base import Kind, Merge
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.comparison import NodeDiff
from dsvgraph_graphviz.model.layers import width
from dsvgraph_graphviz.model.merge import MergedNode, may_merge
from dsvgraph_graphviz.model.shares import LEAST, SMALL, Shares
from dsvgraph_graphviz.style import cards
from dsvgraph_graphviz.style.cards import Expert
from dsvgraph_graphviz.style.theme import HUES, PAPER, Hue, Role
from dsvgraph_graphviz.style.words import cut, features, number, op_title, product, short, times
from dsvgraph_graphviz.text.attention import attention_heads, attention_words, inside_attention, scale_of, softmax
from dsvgraph_graphviz.text.differences import difference_border, difference_rows, with_differences
from dsvgraph_graphviz.text.titles import LAYERS, block_title, contents

PILLS = {Role.NORM, Role.POSITION}
ROLE_TITLES = {Role.EMBEDDING: "Embedding", Role.OUTPUT_LAYER: "Output head"}
LINE, KINDS = 44, 4  # characters of a line, kinds of layers with a line of their own
SHOWN = 4  # experts with a cell of their own before the dots


@dataclass(frozen=True)
class Labels:
    """Writes the labels of one model. ``named`` cards carry the names of lines, as inside an open block."""

    analysis: Analysis
    view: View

    @cached_property
    def work(self) -> Shares:
        """Shares of the FLOPs."""
        return Shares(self.analysis, "flops")

    @cached_property
    def heat(self) -> Shares | None:
        """Shares of the cost that the picture is coloured by."""
        return Shares(self.analysis, self.view.heat) if self.view.heat else None

    def hue(self, graph: Graph, nodes: Sequence[Node], role: Role) -> Hue:
        """Return the colours of a card: of its role, or of its share of a cost."""
        return self.heat.hue(graph, nodes) if self.heat else HUES[role]

    def _share(self, graph: Graph, nodes: Sequence[Node], named: bool, least: float = LEAST) -> list[str]:
        shares = self.heat or (None if named else self.work)
        return shares.text(graph, nodes, least) if shares else []

    def share(self, graph: Graph, nodes: Sequence[Node]) -> list[str]:
        """Return the share of the cost that the picture is coloured by, in words."""
        return self.heat.text(graph, nodes) if self.heat else []

    def weights(self, card: MergedNode) -> list[str]:
        """Return names and shapes of a card's weights, as they stand in the checkpoint below the frame's path."""
        nodes = [card.node, *(c.norm for c in card.below if c.norm)] if self.view.weights else []
        return [f"{join(n.at, name)} {weight.type}" for n in nodes for name, weight in n.weights.items()]

    def of(self, graph: Graph, card: MergedNode, role: Role, named: bool, diffs: list[NodeDiff]) -> str:
        """Return the label of one card, with what differs between two models."""
        if self._is_card(card, role):
            return self._card(graph, card, role, named, diffs)
        return with_differences(self._small(graph, card, role, named), diffs, self.analysis)

    def _is_card(self, card: MergedNode, role: Role) -> bool:
        layer = self.analysis.roles.is_layered(card.node)
        return not (card.node.tied or self._is_pill(card) or (card.node.copies and role == Role.EXPERTS and not layer))

    def _small(self, graph: Graph, card: MergedNode, role: Role, named: bool) -> str:
        """Return the label of what has no cells: a shared weight, a pill, experts."""
        node = card.node
        hue, captions = self.hue(graph, card.nodes, role), self._share(graph, card.nodes, named, SMALL)
        if node.tied:
            title = op_title(node) if role == Role.NORM else self.title(graph, node, role, named)
            return cards.shared(title, hue, captions=captions)
        if self._is_pill(card):
            return cards.pill(
                op_title(node), hue, bold=role == Role.POSITION, captions=captions, mono=self.weights(card)
            )
        return self._experts(graph, node)

    def _is_pill(self, card: MergedNode) -> bool:
        if not (op := card.node.op):
            return False
        heavy = card.node.weights and op.kind is not Kind.NORM
        return not (heavy or card.below or card.above or card.wide or op.kind is Kind.ATTENTION)

    def attention(self, graph: Graph, node: Node, diffs: list[NodeDiff]) -> tuple[str, str]:
        """Return the labels of an open attention: of its scores, and of what they weigh."""
        hue = self.hue(graph, (node,), Role.ATTENTION)
        way = self.view.direction
        cells = {port: cards.Cell(port, port) for port in ("q", "k", "v", "weights")}
        scores = cards.card(
            softmax(node), [scale_of(node)], hue, below=[cells["q"], cells["k"]], direction=way,
            notes=difference_rows(diffs, self.analysis), frame=difference_border(diffs),
        )  # fmt: skip
        lines = [*attention_heads(node), *self._share(graph, (node,), named=True)]
        return scores, cards.card("weights · v", lines, hue, below=[cells["weights"], cells["v"]], direction=way)

    def _card(self, graph: Graph, card: MergedNode, role: Role, named: bool, diffs: list[NodeDiff]) -> str:
        node = card.node
        layer = self.analysis.roles.is_layer(node)
        badge = times(node) if node.copies and (node.mode is not Mode.CALL or layer) else ""
        hue = self.hue(graph, card.nodes, role)
        hue = replace(hue, fill=PAPER) if may_merge(node, Merge.READER) and not self.heat else hue
        title = self.title(graph, node, role, named)
        return cards.card(
            title, self.lines(graph, card, named, title), hue, badge=badge,
            above=card.above, below=card.below, mono=self.weights(card), direction=self.view.direction,
            notes=difference_rows(diffs, self.analysis), frame=difference_border(diffs),
            width=cards.WIDE if not named or badge else cards.NARROW,
        )  # fmt: skip

    # -- the bold name ----------------------------------------------------------------------

    def title(self, graph: Graph, node: Node, role: Role, named: bool = False) -> str:
        """Return what a card or a frame is called."""
        if node.op:
            if role in ROLE_TITLES and node.op.kind in (Kind.LOOKUP, Kind.LINEAR):
                return ROLE_TITLES[role]
            if named or node.op.kind is not Kind.LINEAR:
                return cut(node.name)
            return f"Linear {_change(node)}" if node.weights else cut(node.name)
        if self.analysis.roles.is_layer(node):
            return LAYERS[role]
        return block_title(node.copies[0].graph, self.analysis) if node.copies else cut(node.name)

    # -- the captions --------------------------------------------------------------------

    def lines(self, graph: Graph, card: MergedNode, named: bool, title: str) -> list[str]:
        """Return sizes and parameters; the name of a line where the card's title says its sizes."""
        node = card.node
        if node.op:
            found = (cut(node.name) if words in title else words for words in _op_words(node, card, named))
            states = [features(state.type.shape) for state in self.analysis.decoding_cache.states(graph, node.name)]
            held = [f"caches a state of {' + '.join(states)}"] if states else []
            captions = _spread([*found, *held, *self._count(graph, card)])
        elif self.analysis.roles.is_layered(node):
            captions = [*self._contents(node), self._each(node)]
        else:
            name = [cut(node.name)] if named else []
            captions = _spread([*name, *self._block_words(node.copies[0].graph), *self._count(graph, card)])
        many = [f"{number(len(card.inputs))} inputs: {len(card.drawn)} are drawn"] if card.wide else []
        return [*many, *captions, *self._share(graph, card.nodes, named)]

    def _count(self, graph: Graph, card: MergedNode) -> list[str]:
        count: Size = 0
        for node in card.nodes:
            count = count + self.analysis.parameters(graph, node)
        return [short(count)] if count != 0 else []

    def _contents(self, node: Node) -> list[str]:
        """Return the blocks that layers are made of: MLA + SwiGLU 18,432; a line for each kind, with its number."""
        found: dict[str, Size] = {}
        for copies in node.copies:
            words = contents(copies.graph, self.analysis)
            found[words] = found.get(words, 0) + copies.count
        lines = [cut(w if len(found) == 1 else f"{number(n)} × {w}", LINE) for w, n in found.items()]
        return lines if len(lines) <= KINDS else [*lines[: KINDS - 1], f"{len(lines) - KINDS + 1} other kinds"]

    def _each(self, node: Node) -> str:
        sizes = [self.analysis.parameters(copies.graph) for copies in node.copies]
        active = [self.analysis.active(copies.graph) for copies in node.copies]
        each = " each" if node.count != 1 and not node.reused else ""
        if len(set(sizes)) > 1:
            known = sorted(size for size in sizes if isinstance(size, int))
            return f"{short(known[0])} to {short(known[-1])} each" if len(known) == len(sizes) else "sizes differ"
        return f"{short(sizes[0])}{each}" + (f", {short(active[0])} active" if active != sizes else "")

    def _block_words(self, graph: Graph) -> list[str]:
        if found := self.analysis.find(graph, "attention"):
            return attention_words(*found, self.analysis.decoding_cache.sizes(graph))
        inner = width(graph)
        outs = [graph.type(ref).shape for ref in graph.outputs.values()]
        ins = [t.shape for t in graph.inputs.values()]
        if inner is None or not outs or not ins or not (outs[0] and ins[0]):
            return []
        return [" → ".join(number(s) for s in (ins[0][-1], inner, outs[0][-1]))]

    # -- experts ----------------------------------------------------------------------------

    def _experts(self, graph: Graph, node: Node) -> str:
        inner = node.copies[0].graph
        many, share, router = self._expert_parts(inner)
        text = [*self.expert_words(inner), *self._sizes(inner)]
        hue, part = self.hue(graph, (node,), Role.EXPERTS), self._share(graph, (node,), named=False)
        cells = _expert_cells(many.count if many else 0, share)
        return cards.experts(block_title(inner, self.analysis), [" · ".join(text), *part], router, cells, hue)

    def _expert_parts(self, graph: Graph) -> tuple[Node | None, int, str]:
        """Return the line of experts, how many experts' widths stand beside it, and the router in words."""
        found = self.analysis.find(graph, "router")
        body = found[0] if found else graph
        many = next((n for n in body.nodes.values() if n.mode is Mode.EACH), None)
        beside = [n for n, role in self.analysis.roles.sublayers(body) if role == Role.DENSE and n is not many]
        return (
            many,
            _shared_count(many, beside),
            found[1].op.details(found[1].input_types, found[1].outputs)[0] if found and found[1].op else "",
        )

    def expert_words(self, graph: Graph) -> list[str]:
        """Return how many experts there are, and of what width."""
        many, share, _ = self._expert_parts(graph)
        count = f"{number(many.count if many else 0)} routed"
        inner = width(many.copies[0].graph) if many else None
        return [f"{share} shared + {count}" if share else count, *([f"width {number(inner)}"] if inner else [])]

    def _sizes(self, graph: Graph) -> list[str]:
        total, active = self.analysis.parameters(graph), self.analysis.active(graph)
        return [short(total) + (f", {short(active)} active" if active != total else "")]

    def about(self, graph: Graph) -> list[str]:
        """Return a block in words, for the heading of its own picture."""
        role = self.analysis.roles.of_graph(graph)
        if role == Role.EXPERTS and Kind.ATTENTION not in self.analysis.roles.kinds(graph):
            return [*self.expert_words(graph), self._expert_parts(graph)[2].replace("  ·  ", ", ")]
        direct = next((n for n in graph.nodes.values() if n.callee == "attention" and n.op), None)
        return inside_attention(graph, direct) if direct else self._block_words(graph)


def _op_words(node: Node, card: MergedNode, named: bool) -> list[str]:
    """Return the sizes of an op's weight, or what the op says of itself."""
    assert node.op is not None
    if "weight" in node.weights and node.op.kind is Kind.LOOKUP:
        return [product(node.weights["weight"].shape)]
    join = [f"{op_title(card.concat)} {cut(card.joined)}"] if card.concat else []
    if "weight" in node.weights and node.op.kind is Kind.LINEAR:
        return [*join, _change(node)] if named or not join else join
    return join or node.op.details(node.input_types, node.outputs)


def _change(node: Node) -> str:
    rows, columns = node.weights["weight"].shape
    return f"{number(columns)} → {number(rows)}"


def _shared_count(many: Node | None, beside: list[Node]) -> int:
    """Return how many experts' widths the blocks beside the routed experts make up, at least one each."""
    one = width(many.copies[0].graph) if many else None
    total = 0
    for node in beside:
        own = width(node.copies[0].graph)
        total += own // one if isinstance(own, int) and isinstance(one, int) and own >= one else 1
    return total


def _expert_cells(count: Size, share: int) -> list[tuple[str, Expert]]:
    """Return cells of the first and last experts, two of three filled as if chosen."""
    beside = [("S" if share == 1 else f"{share} S", Expert.SHARED), ("", Expert.GAP)] if share else []
    if isinstance(count, Poly):
        return [*beside, ("1", Expert.OPEN), ("2", Expert.CHOSEN), ("···", Expert.GAP)]
    numbers = list(range(1, count + 1))
    few = len(numbers) <= SHOWN + 2
    first, last = (numbers, []) if few else (numbers[:SHOWN], numbers[-2:])
    dots = [("···", Expert.GAP)] if last else []
    shown = [(str(n), Expert.CHOSEN if n % 2 == 0 else Expert.OPEN) for n in first]
    return [*beside, *shown, *dots, *[(str(n), Expert.CHOSEN if n == count else Expert.OPEN) for n in last]]


def _spread(found: Sequence[str], longest: int = 46) -> list[str]:
    """Return words joined by dots, in as many lines as they need."""
    lines: list[str] = []
    for words in found:
        joined = f"{lines[-1]} · {words}" if lines else words
        lines[-1:] = [joined] if len(joined) <= longest or not lines else [lines[-1], words]
    return lines
