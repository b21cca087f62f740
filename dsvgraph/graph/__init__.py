"""The graph: what a spec means once every port has a type. An untyped graph never exists."""

from dsvgraph.graph.losses import Loss, LossKind
from dsvgraph.graph.model import Model
from dsvgraph.graph.nodes import Copies, Graph, Mode, Node, PortRole, Ref, Use, Visit, join, span_text, walk

__all__ = [
    "Copies", "Graph", "Loss", "LossKind", "Mode", "Model", "Node", "PortRole", "Ref", "Use", "Visit",
    "join", "span_text", "walk",
]  # fmt: skip
