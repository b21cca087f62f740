"""What a picture shows of a model, as its reader asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from dsvgraph.graph import Model
from dsvgraph_graphviz.model.facts import Facts
from dsvgraph_graphviz.model.find import Found
from dsvgraph_graphviz.model.union import Union

FULL = 1_000  # deeper than any spec


@dataclass(frozen=True)
class View:
    """How a model is drawn.

    ``depth`` 1 shows the lines of the model and its most repeated block; every level more opens the
    blocks that are then on show, each distinct one once, beside them. ``focus`` is the path of the block to
    draw alone, ``expand`` those of blocks to open in their place.
    """

    depth: int = 1
    focus: str = ""
    expand: tuple[str, ...] = ()
    theme: str = "light"
    shapes: str = "numbers"
    weights: bool = False
    heat: str = ""
    direction: str = "BT"
    diff: Model | None = None


@dataclass
class Subject:
    """What a picture shows: a model, or two models as one graph, and what is known of its parts.

    ``first`` is the model itself; of two, the one that is compared with ``view.diff``. ``focus`` is the block or
    op that is drawn alone.
    """

    model: Model
    facts: Facts
    view: View
    first: Model
    union: Union | None = None
    focus: Found | None = None
