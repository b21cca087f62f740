"""What a training step computes otherwise than the cost counts: losses left out, and rows without a target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from dsvgraph.build.checks.freezing import root
from dsvgraph.build.losses.formulas import number as loss_number
from dsvgraph.build.losses.predictions import seen
from dsvgraph.dims import Size, evaluate, total
from dsvgraph.graph import Graph, Loss, Mode, Model, Node, Ref
from dsvgraph.graph.dependencies import Ports
from dsvgraph.passes.count.gradients import NONE, Backward, Copy
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import input_sizes, tokens
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.graph.optional import balanced, optional_losses, outputs_read, skippable_lines
from dsvgraph.types import AttentionPairs
from dsvgraph_torch.lowering.analysis import linears_behind

Piece = tuple[str, int]
"""A loss, or an output, and one of its depths: 0 where it is not stacked."""

LeftOut = frozenset[Piece]
"""Losses, by depth, that a step does not compute."""


def expected(model: Model, batch: int, seq: int, left_out: LeftOut = frozenset()) -> tuple[int, int, int]:
    """Return FLOPs of a step's forward and backward from the losses alone, and what of them has no target.

    A loss multiplies its head for the positions that have a target, and without a gradient that of an output that it
    compares with; the cost counts all positions once. The losses ``left_out`` are not computed.
    """
    flops = StepFlops(model, batch, seq, "square")
    unused = list(_unused(model, flops.counter, seq, left_out))
    less = batch * sum(one.forward for one in unused)
    scored = frozenset(name for loss in model.losses for name in _sides(loss))
    back = flops.backward(left_out, scored) - batch * sum(one.backward for one in unused)
    return flops.forward(left_out) - less, back, less


class StepFlops:
    """FLOPs of training steps by the count of the graph, less those of the losses that a step leaves out."""

    def __init__(self, model: Model, batch: int, seq: int, attention: str = AttentionPairs.CAUSAL) -> None:
        self.model = model
        self.counter = GraphCounter(tokens(model), input_sizes(model, batch, seq), attention)
        self.skippable = skippable_lines(model)
        optional = optional_losses(model)
        self.optional = {name: ones for loss in optional for name, ones in named_depths(loss).items()}
        self.memo = dict[LeftOut, int]()

    def saved(self, computed: Iterable[str]) -> int:
        """Return by how much a batch of which these losses were computed is cheaper than one that has all of them."""
        names = self.optional.keys() - {*computed}
        left_out = frozenset(one for name in names for one in self.optional[name])
        if left_out not in self.memo:
            self.memo[left_out] = self._all(frozenset()) - self._all(left_out) if left_out else 0
        return self.memo[left_out]

    def _all(self, left_out: LeftOut) -> int:
        return self.forward(left_out) + self.backward(left_out)

    def forward(self, left_out: LeftOut) -> int:
        """Return FLOPs of the forward pass."""
        size = self.counter.of(self.model).forward
        skipped = {(name, depth): copy for name in self.skippable for depth, copy in self._skipped(name, left_out)}
        for copy in skipped.values():
            size = size - self.counter.of(copy).forward
        for name, depth in self._idle(left_out, trained=False):
            if (self.model.outputs[name].node, depth) not in skipped:
                size = size - self._unmade(name, depth)
        return int(number(size, self.counter.values))

    def backward(self, left_out: LeftOut, outputs: Ports | None = None) -> int:
        """Return FLOPs of the backward pass from ``outputs``, or from all."""
        model, whole, idle = self.model, set(outputs or self.model.outputs), dict[str, list[Ports]]()
        for name, depth in self._idle(left_out, trained=True):
            node, port = model.nodes.get(model.outputs[name].node), model.outputs[name].port
            if depth and node is not None:
                ports = idle.setdefault(node.name, [NONE] * int(node.count))  # type: ignore[arg-type]
                ports[depth - 1] |= {port}
            else:
                whole -= {name}
        unbalanced = frozenset(node.name for node in model.nodes.values() if not balanced(node, model))
        ways = Backward(self.counter, True, idle, unbalanced)
        return int(number(total(ways.of(model, frozenset(whole)).values()), self.counter.values))

    def _idle(self, left_out: LeftOut, trained: bool) -> Iterator[Piece]:
        """Yield the pieces of outputs that losses read, or send a gradient to (``trained``), and all are left out."""
        read: dict[Piece, list[bool]] = {}
        for loss in self.model.losses:
            for depth in loss.depths if loss.output else ():
                for name in _sides(loss) if trained else outputs_read(loss):
                    deep = self.model.type(self.model.outputs[name]).rank == 4
                    read.setdefault((name, depth if deep else 0), []).append((loss.name, depth) in left_out)
        yield from (piece for piece, idle in read.items() if all(idle))

    def _skipped(self, name: str, left_out: LeftOut) -> Iterator[tuple[int, Graph]]:
        """Yield the depths and graphs of the copies of a line that do not run."""
        node, losses = self.model.nodes[name], self.skippable[name]
        runs = [any((loss.name, depth) not in left_out for loss in losses) for depth, _ in self._copies(node)]
        for depth, graph in self._copies(node):
            if not (any(runs[depth - 1 :]) if node.carried else runs[depth - 1]):
                yield depth, graph

    def _copies(self, node: Node) -> Iterator[tuple[int, Graph]]:
        yield from ((depth, graph) for depth, (_, graph) in enumerate(node.copy_graphs(), 1))

    def _unmade(self, name: str, depth: int) -> Size:
        """Return FLOPs of the product that gives an output, where it is left to the losses."""
        model, ref = self.model, self.model.outputs[name]
        if not linears_behind(model, model, ref):
            return 0
        rows, positions = model.type(ref).shape[-3:-1]
        return _head(Backward(self.counter), Copy(model, NONE, root(model)), ref, depth)[0] * rows * positions


def named_depths(loss: Loss) -> dict[str, list[Piece]]:
    """Return what of a loss has each of its names: all depths together, or one."""
    every = [(loss.name, depth) for depth in loss.depths]
    return {loss.name: every} if loss.end_to_end else {n: [one] for n, one in zip(loss.names, every, strict=True)}


def _sides(loss: Loss) -> list[str]:
    """Return the outputs that a loss sends gradients to."""
    return [name for name in (loss.output, loss.against if loss.target_gradient else None) if name]


class _Unused(NamedTuple):
    """FLOPs of one row of a batch that the cost counts for a head and a loss does not need."""

    forward: int
    backward: int


def _unused(model: Model, counter: GraphCounter, seq: int, left_out: LeftOut) -> Iterator[_Unused]:
    """Yield what each loss does not need. A head that several losses score is counted once and multiplied for each."""
    ways, seen_heads = Backward(counter), set[tuple[str, int, bool]]()
    for loss in model.losses:
        depths = [depth for depth in loss.depths if (loss.name, depth) not in left_out]
        for depth in depths if loss.kind.of_logits or loss.draft else ():
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
