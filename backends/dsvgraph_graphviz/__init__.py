"""Draws a model with graphviz: columns, rows, one hue per role.

>>> import dsvgraph
>>> render(dsvgraph.load("deepseek_v3_tiny"), "tiny.svg")  # doctest: +SKIP
PosixPath('tiny.svg')
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import graphviz

from dsvgraph.graph import Model
from dsvgraph_graphviz import theme
from dsvgraph_graphviz.draw import draw
from dsvgraph_graphviz.engine import write
from dsvgraph_graphviz.heading import heading, lines, title
from dsvgraph_graphviz.markup import cell, label, table, words
from dsvgraph_graphviz.palettes import recoloured
from dsvgraph_graphviz.plan import Plan, plan
from dsvgraph_graphviz.scoring import auxiliary, formula, score
from dsvgraph_graphviz.view import View

__all__ = ["dot_source", "render"]


def render(graph: Model, path: str | PathLike[str], depth: int = 1, **view: Any) -> Path:
    """Draws ``graph`` into ``path``: svg, png, pdf or dot by its ending; ``view`` as in `view.View`.

    Raises DsvError where the file cannot be written, a path is none, or there is no graphviz.
    """
    made = plan(graph, View(depth, **view))
    words = ". ".join(part for part in lines(made) if part)
    return write(_source(made), Path(path), title(made), words, made.view.theme == "auto")


def dot_source(graph: Model, depth: int = 1, **view: Any) -> str:
    """The diagram of ``graph`` as the text of a DOT."""
    return _source(plan(graph, View(depth, **view)))


def _source(made: Plan) -> str:
    return recoloured(str(_draw(made).source), made.view.theme)


def _draw(made: Plan) -> graphviz.Digraph:
    terms = [] if made.focus else score(made)
    hue = theme.ROSE
    rows = [cell(words(formula(terms), hue.title, 15, bold=True))] if terms else []
    rows += [cell(words(" · ".join(more), hue.text, theme.QUIET))] if (more := auxiliary(made.model)) else []
    rows = [cell("", height=6), *rows]  # as much room above the words as graphviz leaves below
    sum_label = label(table(rows, border=0, cellspacing=0, cellpadding=2))
    return draw(made, heading(made), terms, sum_label)
