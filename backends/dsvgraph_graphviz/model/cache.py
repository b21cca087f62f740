"""What decoding caches, for each body as it is used in the model: the values and states that `cost` counts."""

from __future__ import annotations

from functools import cached_property

from dsvgraph.build.decoding.state import Decoding, Missing
from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Model, Ref
from dsvgraph.ops.decoding import Past, State
from dsvgraph.passes.graph.decoding import CacheCounter, decoding, looks_ahead
from dsvgraph_graphviz.model.comparison import ComparedGraph
from dsvgraph_graphviz.style.words import features, number


class DecodingCache:
    """Answers for one model, all its outputs decoded; of two models in one graph for each body alone."""

    def __init__(self, model: Model, keeper: CacheCounter, comparison: ComparedGraph) -> None:
        self.model, self.keeper, self.comparison = model, keeper, comparison

    @cached_property
    def _found(self) -> dict[Graph, list[Decoding]]:
        """How each graph decodes where it is used; nothing is kept where whole rows are computed each time."""
        found: dict[Graph, list[Decoding]] = {}
        if not self.comparison.real and not looks_ahead(self.model):
            for one in decoding(self.model, self.keeper.decoder, heads=True).all():
                found.setdefault(one.graph, []).append(one)
        return found

    def of(self, graph: Graph) -> list[Decoding]:
        """Return how ``graph`` decodes; more than one where it is used in several ways."""
        if self.comparison.real:
            try:
                return [self.keeper.decoder.of(self.comparison.real.get(graph, graph))]
            except Missing:
                return []
        return self._found.get(graph, [])

    def values(self, graph: Graph) -> dict[Ref, Past]:
        """Return the values that are kept in ``graph`` itself."""
        return {ref: rows for one in self.of(graph) for ref, rows in one.kept.items()}

    def states(self, graph: Graph, name: str) -> list[State]:
        """Return the states that a line of ``graph`` carries from position to position."""
        return [state for one in self.of(graph)[:1] for (line, _), state in one.states.items() if line == name]

    def count(self, graph: Graph, name: str) -> Size:
        """Elements that are kept of one line with all its copies, those that grow with every position."""
        return sum((self.keeper.of_line(one, name).growing for one in self.of(graph)[:1]), start=0)

    def sizes(self, graph: Graph) -> list[str]:
        """Return the sizes of what is kept in ``graph`` and below, at each position: 4 × 16."""
        return [words for one in self.of(graph)[:1] for words in self._below(one)]

    def _below(self, one: Decoding) -> list[str]:
        found = [held(features(one.graph.type(ref).shape), rows) for ref, rows in one.kept.items()]
        found += [f"state {features(state.type.shape)}" for state in one.states.values()]
        for name, inner in one.inner.items():
            for copies, below in zip(one.graph.nodes[name].copies, inner, strict=True):
                times = "" if copies.count == 1 else f"{number(copies.count)} × "
                found += [f"{times}({words})" if times else words for words in self._below(below)]
        return found


def held(size: str, rows: Past) -> str:
    """Return a size with the number of rows that it is kept for, where these are not all."""
    return size if rows.last is None else f"{size} of the last {number(rows.last)}"
