"""The error of a line that is right as a graph and has no module of torch's."""

from __future__ import annotations

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError
from dsvgraph.graph import Node


def refusal(node: Node, words: str, hint: str = "", code: Code = Code.NOT_LOWERED) -> DsvError:
    """What to raise where ``node`` cannot be compiled, at its line."""
    return DsvError(words, node.span, code=code, hint=hint)
