"""Shares of a cost: how much of what a body costs each of its lines does."""

from __future__ import annotations

from collections.abc import Sequence

from dsvgraph.graph import Graph, Node
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.copies import chains
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.markup import cell, table, words

NAMES = {"params": "parameters", "flops": "FLOPs", "memory": "activations"}
LEAST, SMALL = 0.0005, 0.01  # of a share that a card says, and one of a single word
STEPS = (0.01, 0.05, 0.2, 0.5)
LEGEND = ("under 1 %", "1 to 5 %", "5 to 20 %", "20 to 50 %", "over 50 %")


class Shares:
    """Answers for one model and one cost: params, flops, or memory (what training keeps of the forward pass)."""

    def __init__(self, analysis: Analysis, what: str) -> None:
        self.analysis, self.what = analysis, what
        self._apart = chains(analysis.model)
        self._totals: dict[Graph, float] = {}

    def of(self, graph: Graph, nodes: Sequence[Node]) -> float | None:
        """Return the share of one box in what is drawn with it; None where it costs nothing or has no number."""
        own = sum(self._cost(graph, node) for node in nodes)
        if not own or any(node in self._apart for node in nodes):
            return None
        if graph not in self._totals:
            lines = (n for n in graph.nodes.values() if n not in self._apart)
            self._totals[graph] = sum(self._cost(graph, n) for n in lines)
        return own / self._totals[graph]

    def text(self, graph: Graph, nodes: Sequence[Node], least: float = LEAST) -> list[str]:
        """Return the share in words, if it is at ``least`` so large: 2.2 % of the model's FLOPs."""
        share = self.of(graph, nodes)
        if share is None or share < least:
            return []
        return [f"{100 * share:.3g} % of {self._whole(graph)} {NAMES[self.what]}"]

    def _whole(self, graph: Graph) -> str:
        """Whose cost is all of it: what the frame around the lines of ``graph`` shows."""
        if graph is self.analysis.model:
            return "the main model's" if self._apart else "the model's"
        if any(copies.graph is graph for node in self._apart for copies in node.copies):
            return "this depth's"
        return "the layer's" if self.analysis.roles.is_layer_body(graph) else "the block's"

    def hue(self, graph: Graph, nodes: Sequence[Node]) -> theme.Hue:
        """Return the colour of the share; white for what costs nothing."""
        share = self.of(graph, nodes)
        return theme.WHITE if share is None else theme.HEAT[sum(share > step for step in STEPS)]

    def legend(self) -> str:
        """Return the colours and what they mean, as a table."""
        steps = "".join(
            cell(words(text, hue.text, theme.CAPTION), bgcolor=hue.fill, border=1, color=hue.border, style="rounded")
            for text, hue in zip(LEGEND, theme.HEAT, strict=True)
        )
        title = cell(words(f"share of the {NAMES[self.what]} in its frame:  ", theme.MUTED, theme.CAPTION))
        return table([title + steps], border=0, cellspacing=2, cellpadding=4)

    def _cost(self, graph: Graph, node: Node) -> float:
        if self.what == "flops":
            return self.analysis.work(graph, node) or 0
        if self.what == "params":
            return self.analysis.count(self.analysis.parameters(graph, node))
        return self.analysis.kept(graph, node)
