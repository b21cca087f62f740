"""Logits of a training step: which heads make them, what is kept of them, and what a loss needs besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dsvgraph.build.losses.lines import number as loss_number
from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, Loss, LossKind, Model, Ref
from dsvgraph.ops.tape import FLOAT, LogitsForm
from dsvgraph.ops.weighted import Linear
from dsvgraph.passes.count.quantity import largest, number

LOGITS_CHUNK = 2**25  # logits that a loss makes at once


class Logits:
    """The logits of a model's cross-entropies, with ``values`` for its sizes.

    ``output_layers`` holds, for each linear map that makes them, in which form, and how many tokens ahead their
    nearest target lies.
    """

    def __init__(self, model: Model, values: Mapping[str, int]) -> None:
        self.model, self.values = model, values
        self.losses = [loss for loss in model.losses if loss.kind is LossKind.CROSS_ENTROPY and loss.output]
        self.output_layers = {key: ahead for loss in self.losses for key, ahead in self._layers_of(loss)}

    def _layers_of(self, loss: Loss) -> Iterator[tuple[tuple[Graph, str], tuple[LogitsForm, int]]]:
        assert loss.output is not None
        chunks = any(map(self._chunked, self._sizes(loss)))
        ahead = max(_aheads(loss), default=1)
        for key in output_layers(self.model, self.model.outputs[loss.output]):
            yield key, (LogitsForm.CHUNKS if chunks else LogitsForm.WHOLE, ahead)

    def _sizes(self, loss: Loss) -> Iterator[Size]:
        """Yield how many logits each depth has; none where rows are too short for its target."""
        assert loss.output is not None
        batch, length, words = self.model.type(self.model.outputs[loss.output]).shape[-3:]
        for ahead in _aheads(loss):
            rest = length - ahead + 1
            yield batch * rest * words if number(rest, self.values) > 0 else 0

    def _chunked(self, size: Size) -> bool:
        return number(size, self.values) > LOGITS_CHUNK

    def _all(self) -> list[Size]:
        return [size for loss in self.losses for size in self._sizes(loss)]

    @property
    def kept(self) -> Size:
        """Bytes that are kept for the backward: those that are not made in chunks."""
        return FLOAT * total(size for size in self._all() if not self._chunked(size))

    @property
    def unchunked(self) -> Size:
        """Bytes if all existed at once."""
        return FLOAT * total(self._all())

    def peak_bytes(self) -> Size:
        """Return the most bytes of logits at any time, in float32.

        The backward of a loss, the last first, makes the gradients of the logarithms and of the
        logits beside what is kept; one in chunks recomputes a chunk before.
        """
        left, found = self.kept, list[Size]()
        for size in reversed(self._all()):
            chunked = self._chunked(size)
            found.append(left + FLOAT * (3 * LOGITS_CHUNK if chunked else 2 * size))
            left = left if chunked else left - FLOAT * size
        return largest(found, self.values)


def _aheads(loss: Loss) -> list[int]:
    """Return how far ahead of a position each depth's target lies."""
    return [1 if loss.shift is None else int(loss_number(loss.shift, depth=depth)) for depth in loss.depths]


def output_layers(graph: Graph, ref: Ref) -> set[tuple[Graph, str]]:
    """Return the linear maps that give ``ref``, by graph and name, followed into blocks."""
    node = graph.nodes.get(ref.node)
    if node is None:
        return set()
    if node.op:
        return {(graph, node.name)} if isinstance(node.op, Linear) else set()
    return set().union(*(output_layers(r.graph, r.graph.outputs[ref.port]) for r in node.copies))
