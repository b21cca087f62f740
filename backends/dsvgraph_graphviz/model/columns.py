"""Which lines of a model are drawn as columns beside it: chains whose copies are scored one by one."""

from __future__ import annotations

from dsvgraph.graph import Model, Node


def chains(model: Model) -> list[Node]:
    """Repeated lines whose copies' outputs a loss scores one by one."""
    scored = {model.outputs[loss.output] for loss in model.losses if loss.output and loss.depths != (0,)}
    found = [model.nodes[ref.node] for ref in scored if ref.node in model.nodes]
    repeated = [n for n in found if n.mode == "repeat" and n.copies and n not in _read_by_others(model)]
    return [n for n in model.nodes.values() if n in repeated]


def _read_by_others(model: Model) -> list[Node]:
    return [model.nodes[name] for name in model.net.nodes if name in model.nodes and model.net.out_degree(name)]
