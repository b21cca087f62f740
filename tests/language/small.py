"""Small specs for the tests of the language: a graph over token ids, with or without blocks."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Any

import pytest

import dsvgraph
from dsvgraph import DsvError
from dsvgraph.graph import Graph, Model, Node, join, walk


def spec(body: str, out: str = "y", blocks: str = "", rest: str = "", config: str = "{d: 4, V: 9}") -> str:
    """A spec whose graph embeds `ids` as `e` and goes on with ``body``."""
    parts = [f"config: {config}"]
    if blocks:
        parts.append("blocks:\n" + indent(dedent(blocks).strip("\n"), "  "))
    lines = "e: {embedding: ids, num: V, dim: d}\n" + dedent(body).strip("\n")
    parts.append(f'graph:\n  in: {{ids: "int[B, T]"}}\n  body:\n{indent(lines, "    ")}\n  out: {out}')
    return "\n".join([*parts, dedent(rest).strip("\n"), ""])


def model(body: str, out: str = "y", settings: dict[str, Any] | None = None, **parts: str) -> Model:
    """The model of a small spec."""
    return dsvgraph.loads(spec(body, out, **parts), settings)


def node(body: str, **parts: Any) -> Node:
    """The node `y` of a small spec."""
    return model(body, **parts).nodes["y"]


def messages(body: str, out: str = "y", settings: dict[str, Any] | None = None, **parts: str) -> list[str]:
    """What a small spec is refused with."""
    with pytest.raises(DsvError) as caught:
        model(body, out, settings, **parts)
    return [d.message for d in caught.value.diagnostics]


def message(body: str, **parts: Any) -> str:
    """The one mistake of a small spec."""
    (found,) = messages(body, **parts)
    return found


def weights(graph: Graph) -> dict[str, str]:
    """Path of every owned weight (equal copies folded), and its type."""
    return {join(v.path, name): str(w.type) for v in walk(graph) for name, w in v.node.weights.items()}


def types(found: Node) -> dict[str, str]:
    return {port: str(type_) for port, type_ in found.outputs.items()}
