"""What a reader asks to see of a model."""

from __future__ import annotations

from dataclasses import dataclass

from dsvgraph.graph import Model

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
