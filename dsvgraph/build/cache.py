"""The cache of built blocks, for a spec that is built again and again under other settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsvgraph.build.scope import freeze
from dsvgraph.graph import Graph


class BuildCache:
    """The built blocks of one spec, shared by builds that differ in config values only.

    The graph of a block follows from its arguments, the types of its inputs, and the config values that lines
    inside of it read as arguments: where all are equal, the graph is reused. Every build adds to the cache, so
    its owner decides how long it lives.
    """

    def __init__(self) -> None:
        self.graphs: dict[Any, dict[frozenset[str], dict[Any, Graph]]] = {}
        self.reads: dict[Graph, frozenset[str]] = {}  # config names that lines inside read
        self.nodes: dict[Graph, int] = {}  # of every graph, as `walk` visits them
        self.copies: dict[Graph, int] = {}  # of every graph, those inside of copies counted for each
        self.lines: dict[Graph, int] = {}  # of its own body

    def find(self, key: Any, config: Mapping[str, Any]) -> Graph | None:
        """Return the graph of ``key`` that was built under config values equal to these, or None."""
        for reads, graphs in self.graphs.get(key, {}).items():
            if reads <= config.keys() and (graph := graphs.get(_values(reads, config))) is not None:
                return graph
        return None

    def store(self, key: Any, graph: Graph, reads: frozenset[str], config: Mapping[str, Any]) -> None:
        """Store a graph built under these config values, of which the lines inside of it read ``reads``."""
        self.reads[graph] = reads
        self.graphs.setdefault(key, {}).setdefault(reads, {})[_values(reads, config)] = graph


def _values(names: Iterable[str], config: Mapping[str, Any]) -> Any:
    return tuple(freeze(config[name]) for name in names)
