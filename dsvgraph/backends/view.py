"""What is drawn of a model, and how."""

from __future__ import annotations

from dataclasses import dataclass

from dsvgraph.graph import Model

FULL = 1_000
"""A depth of a View that no spec reaches."""


@dataclass(frozen=True)
class View:
    """What is drawn of a model, and how: the options of `dsvgraph render`.

    ``depth`` 1 shows the lines of the model and its most repeated block; every level more opens the blocks
    that are then shown, each distinct one once, beside them. ``focus`` is the path of the block to draw alone,
    ``expand`` holds the paths of blocks to open in their place, ``diff`` is another model to compare with.
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
