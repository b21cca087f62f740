"""What a training step computes otherwise than the cost counts: rows of heads that have no target."""

from __future__ import annotations

from collections.abc import Iterator

from dsvgraph import expr
from dsvgraph.build.checks.freezing import root
from dsvgraph.build.losses.predictions import seen
from dsvgraph.dims import evaluate, total
from dsvgraph.graph import Graph, Loss, LossKind, Mode, Model, Ref
from dsvgraph.passes.count.gradients import NONE, Backward, Copy, backward
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import input_sizes, tokens
from dsvgraph.passes.count.quantity import number
from dsvgraph.patterns import matches_all
from dsvgraph_torch.lowering.analysis import linears_behind


def expected(model: Model, batch: int, seq: int) -> tuple[int, int, int]:
    """Return fLOPs of a step's forward and backward from the losses alone, and what of them has no target.

    A cross-entropy multiplies its head for the positions that have a target; the cost counts all.
    """
    counter = GraphCounter(tokens(model), input_sizes(model, batch, seq), "square")
    forward = int(number(counter.of(model).forward, counter.values))
    scored = frozenset(loss.output for loss in model.losses if loss.output)
    balanced = any(loss.kind is LossKind.SEQUENCE_BALANCE and _all_routers(loss, model) for loss in model.losses)
    back = int(number(total(backward(model, counter, scored, balanced).values()), counter.values))
    unused = list(_unused(model, counter, seq))
    less = batch * sum(flops for flops, _ in unused)
    return forward - less, back - batch * sum(flops * products for flops, products in unused), less


def _all_routers(loss: Loss, model: Model) -> bool:
    return all(matches_all(loss.routers or "", path) for path in model.routers)


def _unused(model: Model, counter: GraphCounter, seq: int) -> Iterator[tuple[int, int]]:
    """Yield fLOPs of one row of a batch that the cost counts for a head and no loss needs, and how many products
    of its backward pass have as many. A head that several losses score is counted once and multiplied for each.
    """
    ways, first = Backward(counter), dict[str, Loss]()
    for loss in model.losses:
        ref = model.outputs.get(loss.output or "")
        if loss.kind is not LossKind.CROSS_ENTROPY or ref is None or not linears_behind(model, model, ref):
            continue
        counted = seq if first.setdefault(str(loss.output), loss) is loss else 0
        for depth in loss.depths:
            flops, products = _head(ways, Copy(model, NONE, root(model)), ref, depth)
            yield flops * (counted - max(0, seq - _lost(model, loss, depth))), products


def _head(ways: Backward, copy: Copy, ref: Ref, depth: int) -> tuple[int, int]:
    """Return fLOPs per position of the head behind one depth of ``ref`` (0: it is not stacked), and how many of its
    two operands need gradients."""
    node, flow = copy.graph.nodes[ref.node], ways.flow(copy)
    if node.op:
        return _flops(copy.graph, node.name), len(ways.operands(node, flow))
    chained = node.mode is Mode.REPEAT
    copies = [one for one, equal in flow.copies[node.name] for _ in range(int(equal))]  # type: ignore[arg-type]
    inner = copies[depth - 1 if chained else 0]
    return _head(ways, inner, inner.graph.outputs[ref.port], 0 if chained else depth)


def _flops(graph: Graph, name: str) -> int:
    """Return two for each weight."""
    node = graph.nodes[name]
    (size,) = [w.numel for w in node.weights.values()] or [graph.type(r).numel for r in node.tied.values()]
    return 2 * int(evaluate(size, {}))


def _lost(model: Model, loss: Loss, depth: int) -> int:
    """Return positions at the end of a row without a target, or with nothing but fill to score."""
    assert loss.shift is not None
    horizons = seen(model, model.outputs[loss.output or ""], depth)
    shift = expr.evaluate(loss.shift, lambda name: {"depth": depth}[name])
    return max(int(shift) - 1, horizons.fill)
