"""The graph: what a spec means once every port has a type. An untyped graph never exists."""

from dsvgraph.graph.model import Loss, LossKind, Model
from dsvgraph.graph.nodes import Copies, Graph, Mode, Node, PortRole, Ref, Use, Visit, join, span_text, walk

__all__ = [
    "Copies", "Graph", "Loss", "LossKind", "Mode", "Model", "Node", "PortRole", "Ref", "Use", "Visit",
    "join", "span_text", "walk",
]  # fmt: skip
