"""Shares of a cost: how much of what a body costs each of its lines does."""

from __future__ import annotations

from dsvgraph.graph import Graph, Node
from dsvgraph_graphviz import theme
from dsvgraph_graphviz.columns import chains
from dsvgraph_graphviz.facts import Facts
from dsvgraph_graphviz.markup import cell, table, words

NAMES = {"params": "parameters", "flops": "FLOPs", "memory": "activations"}
STEPS = (0.01, 0.05, 0.2, 0.5)
LEGEND = ("under 1 %", "1 to 5 %", "5 to 20 %", "20 to 50 %", "over 50 %")


class Shares:
    """Answers for one model and one cost: params, flops, or memory (what training keeps of the forward pass)."""

    def __init__(self, facts: Facts, what: str) -> None:
        self.facts, self.what = facts, what
        self._apart = chains(facts.model)
        self._totals: dict[Graph, float] = {}

    def of(self, graph: Graph, node: Node) -> float | None:
        """The share of ``node`` in what is drawn with it; None where it costs nothing or has no number."""
        own = self._cost(graph, node)
        if node in self._apart or not own:
            return None
        if graph not in self._totals:
            lines = (n for n in graph.nodes.values() if n not in self._apart)
            self._totals[graph] = sum(self._cost(graph, n) for n in lines)
        return own / self._totals[graph]

    def said(self, graph: Graph, node: Node) -> list[str]:
        """The share in words: 2.2 % of FLOPs."""
        share = self.of(graph, node)
        if share is None or share < 0.0005:
            return []
        return [f"{100 * share:.3g} % of {NAMES[self.what]}"]

    def hue(self, graph: Graph, node: Node) -> theme.Hue:
        """The colour of the share; white for what costs nothing."""
        share = self.of(graph, node)
        return theme.WHITE if share is None else theme.HEAT[sum(share > step for step in STEPS)]

    def legend(self) -> str:
        """The colours and what they mean, as a table."""
        steps = "".join(
            cell(words(text, hue.text, theme.QUIET), bgcolor=hue.fill, border=1, color=hue.border, style="rounded")
            for text, hue in zip(LEGEND, theme.HEAT, strict=True)
        )
        title = cell(words(f"share of the {NAMES[self.what]} in its frame:  ", theme.MUTED, theme.QUIET))
        return table([title + steps], border=0, cellspacing=2, cellpadding=4)

    def _cost(self, graph: Graph, node: Node) -> float:
        if self.what == "flops":
            return self.facts.work(graph, node) or 0
        if self.what == "params":
            return self.facts.count(self.facts.parameters(graph, node))
        return self.facts.kept(graph, node)
