"""dsvgraph: one YAML file is the model; it is checked, counted, drawn, compiled and trained.

>>> graph = load("deepseek_v3_tiny", {"num_nextn_predict_layers": 3})
>>> graph.name
'DeepSeek-V3-tiny'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsvgraph import spec as _spec
from dsvgraph.build import build
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model

if TYPE_CHECKING:
    from dsvgraph.passes.compare.diff import diff
    from dsvgraph.passes.count.cost import cost
    from dsvgraph.passes.lint.unused import lint
    from dsvgraph.passes.text.show import show

__version__ = "0.1.0"
__all__ = ["DsvError", "Graph", "Model", "build", "cost", "diff", "lint", "load", "loads", "render", "show"]

PASSES = {"cost": "count.cost", "diff": "compare.diff", "lint": "lint.unused", "show": "text.show"}
"""Passes that are imported when they are first asked for, and their modules."""


def load(name: str, config: Mapping[str, Any] | None = None, symbolic: Iterable[str] = ()) -> Model:
    """The checked model of a spec file, or of a bundled spec by its name.

    ``config`` overrides config values; names in ``symbolic`` stay names in every size.
    Raises DsvError with every mistake of the spec, each at its place.
    """
    return build(_spec.read(str(name), config, frozenset(symbolic)))


def loads(text: str, config: Mapping[str, Any] | None = None, name: str = "<spec>") -> Model:
    """The checked model of a spec given as YAML text (it may include bundled files)."""
    return build(_spec.read_text(text, config, name))


def render(graph: Model, path: str | PathLike[str], depth: int = 1, **view: Any) -> Path:
    """Draw ``graph`` to ``path``, in the format of its ending, and return ``path``.

    ``depth`` and ``view`` are the fields of `dsvgraph.backends.View`, the options of `dsvgraph render`.
    Raise DsvError if nothing draws this ending, if the file cannot be written, or if a package is missing.
    """
    from dsvgraph.backends import renderer

    return renderer(path).render(graph, Path(path), depth, **view)


def __getattr__(name: str) -> Any:
    """A pass by its name, imported when it is first asked for."""
    if name not in PASSES:
        raise AttributeError(f"module `dsvgraph` has no attribute `{name}`")
    globals()[name] = getattr(import_module(f"dsvgraph.passes.{PASSES[name]}"), name)
    return globals()[name]
