"""Blocks that are kept while one spec is built again and again under other settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsvgraph.build.scope import freeze
from dsvgraph.graph import Graph


class Shelf:
    """Blocks of one spec, for builds that differ in config values only.

    What a block becomes follows from its arguments, the types of its inputs, and the config values
    that lines inside of it take as arguments: where all are equal, so is the graph. It grows
    with every build, so whoever keeps it says for how long.
    """

    def __init__(self) -> None:
        self.kept: dict[Any, dict[frozenset[str], dict[Any, Graph]]] = {}
        self.takes: dict[Graph, frozenset[str]] = {}  # config names that lines inside took
        self.nodes: dict[Graph, int] = {}  # of every graph, as `walk` visits them
        self.copies: dict[Graph, int] = {}  # of every graph, those inside of copies counted for each
        self.lines: dict[Graph, int] = {}  # of its own body

    def find(self, key: Any, config: Mapping[str, Any]) -> Graph | None:
        """The graph of ``key`` that was made under config values equal to these."""
        for taken, graphs in self.kept.get(key, {}).items():
            if taken <= config.keys() and (graph := graphs.get(_values(taken, config))) is not None:
                return graph
        return None

    def keep(self, key: Any, graph: Graph, taken: frozenset[str], config: Mapping[str, Any]) -> None:
        """Keeps what was made under these config values, of which lines inside took ``taken``."""
        self.takes[graph] = taken
        self.kept.setdefault(key, {}).setdefault(taken, {})[_values(taken, config)] = graph


def _values(taken: Iterable[str], config: Mapping[str, Any]) -> Any:
    return tuple(freeze(config[name]) for name in taken)
