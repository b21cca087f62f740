"""Logits of a training step: which heads make them, what is kept of them, and what a loss needs besides.

A loss keeps one value for each logit if it is a cross-entropy (the logarithms) or a z-loss, and two if it compares two
distributions over the vocabulary, or logits with targets for each token; another output's logits are made without
gradients, in the same chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dsvgraph.build.losses.lines import number as loss_number
from dsvgraph.dims import Size, total
from dsvgraph.graph import Graph, Loss, LossKind, Model, Ref
from dsvgraph.ops.tape import FLOAT, LogitsForm
from dsvgraph.ops.weighted import Linear
from dsvgraph.passes.count.quantity import largest, number

LOGITS_CHUNK = 2**25  # logits that a loss makes at once
ONCE = (LossKind.CROSS_ENTROPY, LossKind.Z_LOSS)  # kinds that keep one value for each logit


class Logits:
    """The logits that the losses of a model score, with ``values`` for its sizes.

    ``output_layers`` holds, for each linear map that makes them, in which form, and how many tokens ahead their
    nearest target lies.
    """

    def __init__(self, model: Model, values: Mapping[str, int]) -> None:
        self.model, self.values = model, values
        self.losses = [loss for loss in model.losses if loss.kind.of_logits and loss.output]
        self.output_layers = {key: ahead for loss in self.losses for key, ahead in self._layers_of(loss)}

    def _layers_of(self, loss: Loss) -> Iterator[tuple[tuple[Graph, str], tuple[LogitsForm, int]]]:
        assert loss.output is not None
        chunks = any(map(self._chunked, self._sizes(loss)))
        ahead = max(_aheads(loss), default=1)
        for name in (loss.output, loss.against) if loss.against else (loss.output,):
            for key in output_layers(self.model, self.model.outputs[name]):
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

    def _all(self) -> list[tuple[Size, int]]:
        """Return how many logits each depth of each loss has, and how many values it keeps for each of them."""
        return [(size, 1 if loss.kind in ONCE else 2) for loss in self.losses for size in self._sizes(loss)]

    @property
    def kept(self) -> Size:
        """Bytes that are kept for the backward: those that are not made in chunks."""
        return FLOAT * total(times * size for size, times in self._all() if not self._chunked(size))

    @property
    def unchunked(self) -> Size:
        """Bytes if all existed at once."""
        return FLOAT * total(times * size for size, times in self._all())

    def peak_bytes(self) -> Size:
        """Return the most bytes of logits at any time, in float32.

        The backward of a loss, the last first, makes the gradients of the logarithms and of the
        logits beside what is kept; one in chunks recomputes a chunk before.
        """
        left, found = self.kept, list[Size]()
        for size, times in reversed(self._all()):
            chunked = self._chunked(size)
            found.append(left + FLOAT * times * (3 * LOGITS_CHUNK if chunked else 2 * size))
            left = left if chunked else left - FLOAT * times * size
        return largest(found, self.values)


def _aheads(loss: Loss) -> list[int]:
    """Return how far ahead of a position each depth's target lies; for another output, the token that it predicts."""
    least = 1 if loss.kind.compares else 0
    found = [1 if loss.shift is None else int(loss_number(loss.shift, depth=d)) + least for d in loss.depths]
    return [max(found)] * len(found) if loss.end_to_end and found else found


def output_layers(graph: Graph, ref: Ref) -> set[tuple[Graph, str]]:
    """Return the linear maps that give ``ref``, by graph and name, followed into blocks."""
    node = graph.nodes.get(ref.node)
    if node is None:
        return set()
    if node.op:
        return {(graph, node.name)} if isinstance(node.op, Linear) else set()
    return set().union(*(output_layers(r.graph, r.graph.outputs[ref.port]) for r in node.copies))
