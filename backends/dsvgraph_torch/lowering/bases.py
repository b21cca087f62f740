"""Which block at `.` a class can extend instead of holding it."""

from __future__ import annotations

from dsvgraph.graph import Graph, Mode, Node


def extended(graph: Graph) -> Node | None:
    """The one block at `.` that a class can extend: no address of the two may meet."""
    inner = [n for n in graph.nodes.values() if n.mode is Mode.CALL and not n.op and not n.at]
    if len(inner) != 1 or any(n.weights and not n.at for n in graph.nodes.values()):
        return None
    below = _first_steps(inner[0].copies[0].graph)
    own = [n.at.split(".")[0] for n in graph.nodes.values() if n is not inner[0] and (n.weights or n.copies)]
    return None if below is None or below & set(own) else inner[0]


def _first_steps(graph: Graph) -> set[str] | None:
    """First steps of the addresses that a graph fills; None where it fills its own."""
    filled = [n for n in graph.nodes.values() if n.weights or n.copies]
    return None if any(not n.at for n in filled) else {n.at.split(".")[0] for n in filled}
