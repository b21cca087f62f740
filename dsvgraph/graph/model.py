"""The whole graph of a spec, with what stands beside its graph: losses, config, sections by path."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from dsvgraph.dims import Size
from dsvgraph.errors import DsvError
from dsvgraph.graph.losses import Loss
from dsvgraph.graph.nodes import Graph, walk
from dsvgraph.spec import Spec
from dsvgraph.types import Init


@dataclass(eq=False, repr=False)
class Model(Graph):
    """The whole graph of a spec, with its losses, its config and its sections by path.

    >>> import dsvgraph
    >>> [str(loss.kind) for loss in dsvgraph.load("deepseek_v3_tiny").losses]
    ['cross_entropy', 'cross_entropy', 'sequence_balance', 'bias_update']
    """

    losses: tuple[Loss, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    spec: Spec | None = None
    init: tuple[tuple[str, Init], ...] = ()
    trained: tuple[tuple[str, bool], ...] = ()

    def _repr_svg_(self) -> str | None:
        """Return the picture that a notebook shows; None if it cannot be drawn, and the notebook shows the text."""
        return _displayed(self, "svg")

    def _repr_html_(self) -> str | None:
        """Return the page that a notebook shows, or None."""
        return _displayed(self, "html")

    @cached_property
    def routers(self) -> list[str]:
        """Return the paths of the routers; assume that every line is linked."""
        return [visit.path for visit in walk(self) if visit.node.callee == "router"]

    @property
    def lengths(self) -> list[Size]:
        """Return the numbers of positions of the inputs' rows: one, unless inputs have rows of other lengths."""
        return list(dict.fromkeys(type_.shape[1] for type_ in self.inputs.values() if type_.rank > 1))

    @property
    def target(self) -> str | None:
        """Return the input whose tokens the losses predict; None if no loss predicts tokens."""
        return next((loss.target for loss in self.losses if loss.target), None)

    @property
    def depths(self) -> int:
        """Return the largest depth that a loss predicts."""
        return max((d for loss in self.losses for d in loss.depths), default=0)


def _displayed(model: Model, kind: str) -> str | None:
    """Return what the first entry point ``kind`` of `dsvgraph.displays` makes of ``model``; None if none can."""
    for point in entry_points(group="dsvgraph.displays", name=kind):
        with suppress(DsvError, ImportError):
            return str(point.load()(model))
    return None
