"""Draw a model with graphviz: columns, ranks, one hue per role.

>>> import dsvgraph
>>> render(dsvgraph.load("deepseek_v3_tiny"), "tiny.svg")  # doctest: +SKIP
PosixPath('tiny.svg')
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import graphviz

from dsvgraph.backends import View
from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic
from dsvgraph.graph import Model
from dsvgraph_graphviz.dot.draw import draw, failure
from dsvgraph_graphviz.formats.engine import ending_of, picture
from dsvgraph_graphviz.formats.explorer import explorer
from dsvgraph_graphviz.formats.mermaid import mermaid
from dsvgraph_graphviz.scene import Plan, check_size, plan, score
from dsvgraph_graphviz.style.palettes import recoloured
from dsvgraph_graphviz.text.heading import heading, lines, title
from dsvgraph_graphviz.text.losses import chain_weight, formula, sum_label

__all__ = ["dot_source", "inline", "render", "render_error", "svg"]


def render(graph: Model, path: str | PathLike[str], depth: int = 1, **view: Any) -> Path:
    """Draw ``graph`` into ``path``, by its ending (`engine.ENDINGS`); ``view`` holds the other fields of View.

    Raise DsvError where the file cannot be written, a path is none, or there is no graphviz.
    """
    ending = ending_of(path := Path(path))
    write_atomic(path, _made(plan(graph, View(depth, **view)), ending))
    return path


def _made(made: Plan, ending: str) -> bytes:
    """Return the picture as the bytes of a file."""
    if ending == "json":
        return explorer(made.model, made.analysis).encode()
    if ending in ("mmd", "mermaid"):
        check_size(made)
        terms = [] if made.focus else score(made)
        total = ", ".join([formula(terms), *chain_weight(made.model)]) if terms else ""
        return mermaid(made.scene, made.view.direction, title(made), terms, total).encode()
    source = _source(made)
    if ending == "dot":
        return source.encode()
    words = ". ".join(part for part in lines(made) if part)
    return picture(source, ending, title(made), words, made.view.theme == "auto")


def render_error(error: DsvError, path: str | PathLike[str], theme: str = "light") -> Path:
    """Write the words of ``error`` in the picture's place; a format without pictures keeps what it had."""
    ending = ending_of(path := Path(path))
    if ending in ("svg", "png", "pdf", "dot"):
        source, words = recoloured(failure(str(error)), theme), str(error)
        drawn = source.encode() if ending == "dot" else picture(source, ending, "error", words, theme == "auto")
        write_atomic(path, drawn)
    return path


def svg(graph: Model, depth: int = 1, **view: Any) -> str:
    """Return the picture as an SVG. Raise DsvError where there is no graphviz."""
    return _made(plan(graph, View(depth, **view)), "svg").decode()


def inline(graph: Model) -> str:
    """Return the picture as an element of an HTML document. Raise DsvError where there is no graphviz."""
    text = svg(graph)
    return text[text.index("<svg") :]


def dot_source(graph: Model, depth: int = 1, **view: Any) -> str:
    """Return the diagram of ``graph`` as the text of a DOT."""
    return _source(plan(graph, View(depth, **view)))


def _source(made: Plan) -> str:
    return recoloured(str(_draw(made).source), made.view.theme)


def _draw(made: Plan) -> graphviz.Digraph:
    check_size(made)
    terms = [] if made.focus else score(made)
    return draw(made, heading(made), terms, sum_label(made.model, terms))
