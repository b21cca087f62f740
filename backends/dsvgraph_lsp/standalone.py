"""Build a block of a library that no open spec calls, with names for its sizes."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from dsvgraph import expr
from dsvgraph.build.builder import Builder
from dsvgraph.build.line import Line
from dsvgraph.build.ports import declared
from dsvgraph.dims import symbol
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph
from dsvgraph.spec import ConfigEntry, Spec, SpecPart
from dsvgraph.types import Type


def standalone(spec: Spec, name: str) -> Graph | None:
    """Return the graph of a block whose required arguments are names; None where it needs numbers, or is wrong."""
    try:
        return _built(_ById(spec), name)
    except (DsvError, ValueError):
        return None


class _ById:
    """A spec as a key of the cache, compared by identity."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def __hash__(self) -> int:
        return id(self.spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.spec is other.spec


@lru_cache(maxsize=64)
def _built(key: _ById, name: str) -> Graph:
    spec = key.spec
    needed = {n for part in spec.blocks.values() for n, value in part.model.args.items() if value is None}
    config = {n: ConfigEntry(1, None) for n in sorted(needed)}
    builder = Builder(replace(spec, config=config, symbolic=frozenset(needed)))
    ins = {port: _type(raw) for port, raw in spec.blocks[name].model.inputs.items()}
    first = next(iter(ins.values()))
    builder.positions = frozenset(str(size) for size in first.shape[:2])
    builder.lengths = first.shape[1:2]
    line = Line.calling(name, SpecPart(None, spec.graph.doc, ()))
    return builder.call(line, {}, ins, builder.config)


def _type(raw: Any) -> Type:
    """Return a declared type with its names as symbols."""
    dtype, sizes = declared(raw, None)
    return Type(tuple(_size(size) for size in sizes), dtype)


def _size(raw: Any) -> Any:
    if raw == "...":
        return symbol("rows")
    return expr.evaluate(expr.parse(raw), symbol) if isinstance(raw, str) else raw
