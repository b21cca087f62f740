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
from dsvgraph.graph.signature import signature

if TYPE_CHECKING:
    from dsvgraph.passes.compare.diff import depths, diff
    from dsvgraph.passes.compare.sweep import pareto_front, sweep
    from dsvgraph.passes.count.cost import cost
    from dsvgraph.passes.count.quantity import Quantity
    from dsvgraph.passes.estimate.devices import Device, device
    from dsvgraph.passes.estimate.plan import PlanOptions, plan
    from dsvgraph.passes.lint.unused import lint
    from dsvgraph.passes.text.layout import layout
    from dsvgraph.passes.text.schema import schema
    from dsvgraph.passes.text.show import show
    from dsvgraph.passes.text.summary import summary

__version__ = "0.2.0"
__all__ = [
    "Device", "DsvError", "Graph", "Model", "PlanOptions", "Quantity", "build", "cost", "depths", "device", "diff",
    "layout", "lint", "load", "loads", "pareto_front", "plan", "render", "schema", "show", "signature", "summary",
    "sweep",
]  # fmt: skip

PASSES = {
    "Device": "estimate.devices",
    "PlanOptions": "estimate.plan",
    "Quantity": "count.quantity",
    "cost": "count.cost",
    "depths": "compare.diff",
    "device": "estimate.devices",
    "diff": "compare.diff",
    "layout": "text.layout",
    "lint": "lint.unused",
    "pareto_front": "compare.sweep",
    "plan": "estimate.plan",
    "schema": "text.schema",
    "show": "text.show",
    "summary": "text.summary",
    "sweep": "compare.sweep",
}
"""The modules below `dsvgraph.passes` of the names that are imported when they are first asked for."""


def load(name: str, config: Mapping[str, Any] | None = None, symbolic: Iterable[str] = ()) -> Model:
    """Return the checked model of a spec file, or of a bundled spec by its name.

    ``config`` overrides config values; names in ``symbolic`` stay names in every size.
    Raise DsvError with every mistake of the spec, each at its place.

    >>> load("deepseek_v3_tiny", {"num_hidden_layers": 3}).config["num_hidden_layers"]
    3
    """
    return build(_spec.read(str(name), config, frozenset(symbolic)))


def loads(text: str, config: Mapping[str, Any] | None = None, name: str = "<spec>") -> Model:
    """Return the checked model of a spec given as YAML text, which may extend or include bundled files.

    Raise DsvError with every mistake of the spec; ``name`` stands for the file there.

    >>> loads("extends: deepseek_v3_tiny.yaml\\nconfig: {num_hidden_layers: 3}").config["num_hidden_layers"]
    3
    """
    return build(_spec.read_text(text, config, name))


def render(graph: Model, path: str | PathLike[str], depth: int = 1, **view: Any) -> Path:
    """Draw ``graph`` to ``path``, in the format of its ending, and return ``path``.

    ``depth`` and ``view`` are the fields of `dsvgraph.backends.View`, the options of `dsvgraph render`.
    Raise DsvError if nothing draws this ending, if the file cannot be written, or if a package is missing.

    >>> render(load("deepseek_v3_tiny"), "model.svg", depth=2)  # doctest: +SKIP
    PosixPath('model.svg')
    """
    from dsvgraph.backends import renderer

    return renderer(path).render(graph, Path(path), depth, **view)


def __getattr__(name: str) -> Any:
    """Return what PASSES names, imported when it is first asked for."""
    if name not in PASSES:
        raise AttributeError(f"module `dsvgraph` has no attribute `{name}`")
    globals()[name] = getattr(import_module(f"dsvgraph.passes.{PASSES[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    """Return what the package offers, imported or not."""
    return sorted({*globals(), *__all__})
