"""What stands in a picture, before it is written as DOT: cards, wires and frames, made from a checked model.

The public part of this package: other backends that draw, as the HTML page does, build on these names. `plan` makes
the scene of a whole picture, `SceneBuilder` that of one body; `score` adds the losses.
"""

from __future__ import annotations

from dsvgraph_graphviz.scene.builder import SceneBuilder
from dsvgraph_graphviz.scene.losses import score
from dsvgraph_graphviz.scene.parts import Card, CardShape, Cluster, Container, End, Plan, Scene, Wire, WireKind
from dsvgraph_graphviz.scene.plan import check_size, plan

__all__ = [
    "Card",
    "CardShape",
    "Cluster",
    "Container",
    "End",
    "Plan",
    "Scene",
    "SceneBuilder",
    "Wire",
    "WireKind",
    "check_size",
    "plan",
    "score",
]
