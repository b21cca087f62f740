"""Which token ids reach which embedding: those of the data, and those that lines put in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dsvgraph.errors import DsvError, Span
from dsvgraph.graph import Graph, Model, Node, Ref
from dsvgraph.ops.sequence import Overwrite
from dsvgraph.types import ElementType


class TokenAttribute(NamedTuple):
    """The attribute of a line that puts a token id in."""

    attribute: str
    span: Span | None


Ids = Mapping[int, TokenAttribute | None]
"""The smallest and the largest token ids of the data, and those that lines put in, with their places."""


def check_embeddings(model: Model, vocabulary: int, words: str = "") -> None:
    """Raise DsvError at an embedding that has no row for one of ``vocabulary`` ids, or for what a line puts in.

    ``words`` say what the ids stand for, as a sentence.
    """
    ids: Ids = {0: None, vocabulary - 1: None}
    found = _Tokens(model, words or f"text is read as bytes, which are {vocabulary}")
    found.outputs(model, dict.fromkeys(model.inputs, ids))


class _Tokens:
    """Follows ids through the graphs, each graph once for the same ids."""

    def __init__(self, model: Model, words: str) -> None:
        self.model, self.words = model, words
        self.known: dict[tuple[Graph, object], dict[str, Ids]] = {}

    def outputs(self, graph: Graph, given: Mapping[str, Ids]) -> dict[str, Ids]:
        """Return the ids that each output of ``graph`` may hold, where they come from its inputs."""
        key = graph, frozenset((port, frozenset(ids)) for port, ids in given.items())
        if key not in self.known:
            found: dict[Ref, Ids] = {Ref(name, name): ids for name, ids in given.items()}
            for node in graph.nodes.values():
                ins = {port: found[ref] for port, ref in node.inputs.items() if ref in found}
                if ins:
                    found |= {Ref(node.name, port): ids for port, ids in self.of(graph, node, ins).items()}
            self.known[key] = {name: found[ref] for name, ref in graph.outputs.items() if ref in found}
        return self.known[key]

    def of(self, graph: Graph, node: Node, ins: dict[str, Ids]) -> dict[str, Ids]:
        """Return the ids of a line's outputs."""
        if node.op is None:
            return self.copies(node, ins)
        if node.callee == "embedding":
            self.check(graph, node, ins["x"])
        replaced = isinstance(node.op, Overwrite) and node.op.start == 0
        ids = {**_all([] if replaced else ins.values()), **_filled(node)}
        return {port: ids for port, type_ in node.outputs.items() if type_.dtype is ElementType.INT}

    def copies(self, node: Node, ins: dict[str, Ids]) -> dict[str, Ids]:
        """Return the ids of a block's outputs; its copies take from each other what is carried."""
        outs: dict[str, Ids] = {}
        for copies in (
            *node.copies,
            *node.copies,
        ):  # the second time with what the last copy gives the first of equal ones
            for port, ids in self.outputs(copies.graph, ins).items():
                outs[port] = _all([outs.get(port, {}), ids])
                if port in node.carried:
                    ins = {**ins, port: _all([ins.get(port, {}), ids])}
        return outs

    def check(self, graph: Graph, node: Node, ids: Ids) -> None:
        table = node.weights["weight"].type if "weight" in node.weights else graph.type(node.tied["weight"])
        rows = table.shape[0]
        for token, source in ids.items():
            if isinstance(rows, int) and not 0 <= token < rows:
                why = self.words if source is None else f"`{source.attribute}` puts in token {token}"
                asked = self.model.config.get("vocab_size") == rows and source is None
                raise DsvError(
                    f"the embedding `{node.name}` has {rows} rows, but {why}",
                    node.span,
                    notes=[("this puts it in", source.span)] if source else [],
                    hint=f"--set vocab_size={token + 1}" if asked else "",
                )


def _all(parts: Iterable[Ids]) -> Ids:
    return {token: source for ids in parts for token, source in ids.items()}


def _filled(node: Node) -> Ids:
    """Return the token id that a line puts in: a shift at the end of a row, an overwrite in place of others."""
    name = {"shift": "fill", "overwrite": "value"}.get(node.callee)
    return {getattr(node.op, name): TokenAttribute(name, node.span)} if name else {}
