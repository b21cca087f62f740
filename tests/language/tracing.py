"""The judge of horizons: a graph is run on sets, each position holding the tokens that it depends on.

Nothing here knows how horizons are inferred; it only knows what each op reads.
"""

from __future__ import annotations

import math
from typing import Any

from dsvgraph.graph import Graph, Node, Ref

LENGTH = 64  # more than twice what any wiring here moves
FILL = ("fill", 0)

Value = Any  # positions, each the set of (input, position) that it has seen; or a list of such, stacked


def trace(
    graph: Graph, inputs: dict[str, Value] | None = None, lengths: dict[str, int] | None = None
) -> dict[Ref, Value]:
    """What every port of ``graph`` has seen, position by position."""
    if inputs is None:
        inputs = {n: tuple({(n, i)} for i in range((lengths or {}).get(n, LENGTH))) for n in graph.inputs}
    found = {Ref(n, n): value for n, value in inputs.items()}
    for node in graph.nodes.values():
        found |= {Ref(node.name, w): tuple(set() for _ in range(LENGTH)) for w in node.weights}
        given = {port: found[ref] for port, ref in node.sources.items()}
        outs = op(node, list(given.values())) if node.op else copies(node, given)
        found |= {Ref(node.name, port): value for port, value in outs.items()}
    return found


def op(node: Node, values: list[Value]) -> dict[str, Value]:
    if node.callee == "combine":
        values = [*values[0], *values[1:]]  # every token may have been at every expert
    if any(isinstance(value, list) for value in values):  # stacked: piece by piece
        if node.callee == "stack_attention" and node.op.causal:
            values = [[_union(value[: i + 1]) for i in range(len(value))] for value in values]
        elif node.callee == "stack_attention":
            values = [[_union(value)] * len(value) for value in values]
        pieces = [op(node, list(piece)) for piece in zip(*values)]
        return {port: [piece[port] for piece in pieces] for port in node.outputs}
    own = [set().union(*seen) for seen in zip(*values)]
    if node.callee == "shift":
        by, length = node.op.by, len(own)
        own = [own[i + by] if 0 <= i + by < length else {FILL} if by > 0 else set() for i in range(length)]
    if node.callee == "attention":
        queries, *read = values
        keys = [set().union(*seen) for seen in zip(*read)]
        own = [seen.union(*(keys[: i + 1] if node.op.causal else keys)) for i, seen in enumerate(queries)]
    found = [tuple(own)] * node.op.experts if node.callee == "dispatch" else tuple(own)
    return dict.fromkeys(node.outputs, found)


def _union(pieces: list[Value]) -> Value:
    return tuple(set().union(*seen) for seen in zip(*pieces))


def copies(node: Node, given: dict[str, Value]) -> dict[str, Value]:
    stacked: dict[str, list[Value]] = {port: [] for port in node.outputs}
    for k, (_, graph) in enumerate(node.copy_graphs()):
        sliced = {p: v[k] for p, v in given.items() if node.roles.get(p) == "sliced"}
        found = trace(graph, {p: (given | sliced)[p] for p in graph.inputs})
        outs = {port: found[ref] for port, ref in graph.outputs.items()}
        given |= {p: v for p, v in outs.items() if p in node.carried}
        for port, value in outs.items():
            stacked[port].append(value)
    if node.mode == "call":
        return {port: found[0] for port, found in stacked.items()}
    return {p: given[p] if p in node.carried else found for p, found in stacked.items()}


def horizon(value: Value, name: str) -> float:
    """How far ahead a value looks at most; more than half of the row is infinitely far."""
    if isinstance(value, list):
        return max((horizon(piece, name) for piece in value), default=-math.inf)
    ahead = [j - i for i, seen in enumerate(value) for n, j in seen if n == name]
    furthest = max(ahead, default=-math.inf)
    return math.inf if furthest > LENGTH // 2 else furthest


def fill(value: Value) -> int:
    """From which position on, counted from the end, a value is made of fill."""
    if isinstance(value, list):
        return max((fill(piece) for piece in value), default=0)
    return max((len(value) - i for i, seen in enumerate(value) if FILL in seen), default=0)
