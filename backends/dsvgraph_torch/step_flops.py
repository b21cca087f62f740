"""What a training step computes otherwise than the cost counts: rows of heads that have no target."""

from __future__ import annotations

from collections.abc import Iterator

from dsvgraph import expr
from dsvgraph.dims import evaluate, total
from dsvgraph.graph import Graph, Loss, Model
from dsvgraph.passes.gradients import backward
from dsvgraph.passes.tally import Meter, input_sizes, number, tokens
from dsvgraph_torch.deferred import behind


def expected(model: Model, batch: int, seq: int) -> tuple[int, int, int]:
    """FLOPs of a step's forward and backward from the losses alone, and what of them has no target.

    A cross-entropy multiplies its head for the positions that have a target; the cost counts all.
    """
    meter = Meter(tokens(model), input_sizes(model, batch, seq), "full")
    forward = int(number(meter.of(model).forward, meter.values))
    scored = frozenset(loss.output for loss in model.losses if loss.output)
    back = int(number(total(backward(model, meter, scored).values()), meter.values))
    less = batch * (seq * _row_flops(model, scored) - _used(model, seq))
    return forward - less, back - 2 * less, less


def _row_flops(model: Model, scored: frozenset[str]) -> int:
    """FLOPs of one row of every head that is multiplied where it is scored."""
    first = {loss.output: loss for loss in model.losses if loss.output in scored}
    return sum(flops for loss in first.values() for _, flops in _heads(model, loss))


def _used(model: Model, seq: int) -> int:
    """FLOPs of the heads for the positions of one row of a batch that have a target."""
    return sum(
        flops * max(0, seq - _lost(model, loss, depth))
        for loss in model.losses
        if loss.output
        for depth, flops in _heads(model, loss)
    )


def _heads(model: Model, loss: Loss) -> Iterator[tuple[int, int]]:
    """Depth and FLOPs per position of each head of a loss; nothing where the logits are made first."""
    ref = model.outputs[loss.output or ""]
    if loss.kind != "cross_entropy" or not behind(model, model, ref):
        return
    if loss.depths == (0,):
        yield 0, sum(_flops(*where) for where in behind(model, model, ref))
        return
    copies = [graph for _, graph in model.nodes[ref.node].copy_graphs()]
    for depth in loss.depths:
        inner = copies[depth - 1]
        yield depth, sum(_flops(*where) for where in behind(model, inner, inner.outputs[ref.port]))


def _flops(graph: Graph, name: str) -> int:
    """Two for each weight."""
    node = graph.nodes[name]
    (size,) = [w.numel for w in node.weights.values()] or [graph.type(r).numel for r in node.tied.values()]
    return 2 * int(evaluate(size, {}))


def _lost(model: Model, loss: Loss, depth: int) -> int:
    """Positions at the end of a row without a target, or with nothing but fill to score."""
    assert loss.shift is not None
    ref = model.outputs[loss.output or ""]
    reach = model.nodes[ref.node].copies[ref.port][depth - 1] if depth else model.reach_of(ref)
    shift = expr.evaluate(loss.shift, lambda name: {"depth": depth}[name])
    return max(int(shift) - 1, reach.tail)
