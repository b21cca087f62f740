"""Writes a model as one HTML file that its reader opens, searches and unfolds, with no network.

>>> import dsvgraph
>>> render(dsvgraph.load("deepseek_v3_tiny"), "tiny.html")  # doctest: +SKIP
PosixPath('tiny.html')
"""

from __future__ import annotations

from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from dsvgraph.backends import View
from dsvgraph.errors import DsvError, printable
from dsvgraph.files import write_atomic
from dsvgraph.graph import Model
from dsvgraph_graphviz.model.find import find
from dsvgraph_html.document import page
from dsvgraph_html.model import page_data

__all__ = ["framed", "html", "page_data", "render", "render_error"]


def html(model: Model, depth: int = 1, **view: Any) -> str:
    """Return the page as text; it needs no graphviz on this machine, since it brings its own.

    ``view`` as in `dsvgraph.backends.View`: ``depth``, ``expand`` and ``focus`` say what is open at first
    and where the page opens. Raises DsvError for a path that names nothing, and for what no page shows.
    """
    wanted = View(depth, **view)
    start = _start(model, wanted)
    return page(page_data(model, wanted), start)


def framed(model: Model, height: int = 640) -> str:
    """Return the page in a sandboxed iframe, ``height`` pixels high."""
    return (
        f'<iframe title="{escape(printable(model.name))}" srcdoc="{escape(html(model))}" allow="clipboard-write" '
        f'sandbox="allow-scripts allow-modals" style="width:100%;height:{height}px;border:1px solid #cbd5e1;'
        'border-radius:8px"></iframe>'
    )


def render(graph: Model, path: str | PathLike[str], depth: int = 1, **view: Any) -> Path:
    """Write the page into ``path``; raises DsvError as `html` does, and where the file cannot be written."""
    write_atomic(Path(path), html(graph, depth, **view))
    return Path(path)


def render_error(error: Exception, path: str | PathLike[str], theme: str = "light") -> Path:
    """Leave the page as it was, so that its reader keeps what is open; return the path."""
    return Path(path)


def _start(model: Model, view: View) -> dict[str, Any]:
    """Return what the page shows at first."""
    if view.diff is not None:
        raise DsvError("a page shows one model, no difference", hint="draw it as svg, png or pdf: -o FILE.svg")
    if view.direction != "BT":
        raise DsvError("data flows to the top of a page", hint="leave out --direction, or draw an svg: -o FILE.svg")
    return {
        "open": [find(model, path, "--expand").path for path in view.expand],
        "path": find(model, view.focus, "--focus").path if view.focus else "",
        "levels": view.depth - 1, "theme": view.theme if view.theme == "dark" else "auto",
    }  # fmt: skip
