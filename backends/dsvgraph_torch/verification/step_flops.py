"""What a training step computes otherwise than the cost counts: rows of heads that have no target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from dsvgraph.build.checks.freezing import root
from dsvgraph.build.losses.formulas import number as loss_number
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

    A loss multiplies its head for the positions that have a target, and without a gradient that of an output that it
    compares with; the cost counts all positions once.
    """
    counter = GraphCounter(tokens(model), input_sizes(model, batch, seq), "square")
    forward = int(number(counter.of(model).forward, counter.values))
    sides = [(loss.output, loss.against if loss.target_gradient else None) for loss in model.losses]
    scored = frozenset(name for names in sides for name in names if name)
    balanced = any(loss.kind is LossKind.SEQUENCE_BALANCE and _all_routers(loss, model) for loss in model.losses)
    back = int(number(total(backward(model, counter, scored, balanced).values()), counter.values))
    unused = list(_unused(model, counter, seq))
    less = batch * sum(one.forward for one in unused)
    return forward - less, back - batch * sum(one.backward for one in unused), less


def _all_routers(loss: Loss, model: Model) -> bool:
    return all(matches_all(loss.routers or "", path) for path in model.routers)


class _Unused(NamedTuple):
    """FLOPs of one row of a batch that the cost counts for a head and a loss does not need."""

    forward: int
    backward: int


def _unused(model: Model, counter: GraphCounter, seq: int) -> Iterator[_Unused]:
    """Yield what each loss does not need. A head that several losses score is counted once and multiplied for each."""
    ways, seen_heads = Backward(counter), set[tuple[str, int, bool]]()
    for loss in model.losses:
        for depth in loss.depths if loss.kind.of_logits or loss.draft else ():
            used = max(0, seq - _lost(model, loss, depth))
            scored = (loss.draft, False) if loss.draft else (loss.output, True)
            for name, trained in (scored, (loss.against, loss.target_gradient)):
                ref = model.outputs.get(name or "")
                if name is None or ref is None or not linears_behind(model, model, ref):
                    continue
                piece = depth if model.type(ref).rank == 4 else 0
                flops, products = _head(ways, Copy(model, NONE, root(model)), ref, piece)
                new = {(name, piece, False), *([(name, piece, True)] if trained else [])} - seen_heads
                seen_heads |= new
                part = _share(loss, model, ref) if name == loss.against and not loss.draft else 1
                ours = products - ("head" in loss.detach and name == loss.output) if trained else 0
                ahead = flops * seq * ((name, piece, False) in new) - int(flops * used * part)
                behind = flops * products * seq * ((name, piece, True) in new) - int(flops * ours * used * part)
                yield _Unused(ahead, behind)


def _share(loss: Loss, model: Model, ref: Ref) -> Fraction:
    """Return which part of the logits of the other output a loss with a `vocabulary` compares with."""
    kept = len(loss.vocabulary) if isinstance(loss.vocabulary, tuple) else loss.vocabulary
    return Fraction(kept, int(evaluate(model.type(ref).shape[-1], {}))) if kept else Fraction(1)


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
    if loss.end_to_end:
        return max(_lost(model, replace(loss, end_to_end=False), d) for d in loss.depths)
    fill, shift = seen(model, model.outputs[loss.output or ""], depth).fill, int(loss_number(loss.shift, depth=depth))
    if loss.against:
        return max(shift + seen(model, model.outputs[loss.against], depth).fill, fill)
    return max(shift - 1, fill)
