"""What a picture shows of a model, as its reader asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from dsvgraph.backends import View
from dsvgraph.graph import Model
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.comparison import Comparison
from dsvgraph_graphviz.model.find import Found


@dataclass
class Subject:
    """What a picture shows: a model, or two models as one graph, and what is known of its parts.

    ``first`` is the model itself; of two, the one that is compared with ``view.diff``. ``focus`` is the block or
    op that is drawn alone.
    """

    model: Model
    analysis: Analysis
    view: View
    first: Model
    comparison: Comparison | None = None
    focus: Found | None = None
