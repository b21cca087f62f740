"""A renderer of plain text: the lines of a model, each with its type, blocks opened as far as --depth says.

It meets the contract dsvgraph.backends.Renderer: this module has `render` and `render_error`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsvgraph.backends import View
from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic
from dsvgraph.graph import Graph, Model


def render(graph: Model, path: Path, depth: int = 1, **view: Any) -> Path:
    """Write the outline of ``graph`` to ``path``. Raise DsvError if the view asks for a difference."""
    wanted = View(depth, **view)
    if wanted.diff is not None:
        raise DsvError("an outline shows one model, no difference", hint="dsvgraph diff prints one")
    write_atomic(path, "\n".join([graph.name, *_lines(graph, wanted.depth, "  ")]) + "\n")
    return path


def render_error(error: DsvError, path: Path, theme: str = "light") -> Path:
    """Write the words of ``error`` in place of the outline."""
    write_atomic(path, f"{error}\n")
    return path


def _lines(graph: Graph, levels: int, indent: str) -> Iterator[str]:
    for node in graph.nodes.values():
        times = f" x {node.count}" if node.count != 1 else ""
        yield f"{indent}{node.name}: {node.callee}{times}, {', '.join(map(str, node.outputs.values()))}"
        for copies in node.copies if levels > 1 else ():
            yield from _lines(copies.graph, levels - 1, f"{indent}  ")
