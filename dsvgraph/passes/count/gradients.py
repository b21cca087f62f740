"""What the backward pass costs: where gradients flow, and one product for each operand that needs one.

A value needs a gradient if a trained weight went into it; it gets one if an output depends on it by
ops that pass gradients on. A product y = a b costs as much again for each of a and b that needs one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dsvgraph.build.checks.freezing import PathState, alike, root
from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Mode, Model, Node, Ref, join
from dsvgraph.graph.dependencies import Ports
from dsvgraph.ops.tape import Key
from dsvgraph.passes.count.graph_counts import GraphCounter, known_types
from dsvgraph.types import ElementType, WeightKind

Costs = Mapping[Key, Size]
Idle = Mapping[str, Sequence[Ports]]
SAMPLE = 3  # copies that stand for a number of them that is open: the first, the last, one between
NONE: Ports = frozenset()


class Unequal(Exception):
    """Copies of an open number differ, so that their cost is no formula."""


class Copy(NamedTuple):
    """One copy of a block: which of its inputs need gradients, and its place, which decides what is frozen."""

    graph: Graph
    ins: Ports
    place: PathState


@dataclass
class Flow:
    """The values of one graph that need gradients, as refs, and each block's copies in order, alike ones once."""

    needed: set[Ref] = field(default_factory=set)
    copies: dict[str, list[tuple[Copy, Size]]] = field(default_factory=dict)


def backward(model: Model, counter: GraphCounter, outputs: Ports | None = None, balanced: bool = False) -> Costs:
    """Return FLOPs of the backward pass from every output, or from some, by op, all its copies together.

    ``balanced``: a loss over the scores of all routers sends gradients too. Raise Unequal if copies of
    an open number differ.
    """
    return Backward(counter, balanced).of(model, outputs)


def below(costs: Costs) -> Costs:
    """Return what lies below each key, and below what encloses it: a sum for every place in the graph."""
    found: dict[Key, Size] = {}
    for key, size in costs.items():
        for end in range(len(key) + 1):
            found[key[:end]] = found.get(key[:end], 0) + size
    return found


class Backward:
    """Both ways through a graph: forward for what needs gradients, backward for what gets them.

    Blocks that models share are looked at once. ``idle`` says of repeated lines of the model which outputs of each copy
    get no gradient, ``unbalanced`` of which lines no loss is over the routers.
    """

    def __init__(
        self, counter: GraphCounter, balanced: bool = False, idle: Idle | None = None, unbalanced: Ports = NONE
    ) -> None:
        self.counter, self.balanced, self.idle, self.unbalanced = counter, balanced, idle or {}, unbalanced
        self.model: Graph | None = None
        self.chooses: dict[Graph, bool] = {}  # whether there are routers in it or below
        self.flows: dict[Copy, Flow] = {}
        self.memo: dict[tuple[Copy, Ports], tuple[Costs, Ports]] = {}

    def of(self, model: Model, outputs: Ports | None = None) -> Costs:
        """Return what `backward` returns for a model."""
        self.model, whole = model, Copy(model, NONE, root(model))
        return self.costs(whole, frozenset(model.outputs) if outputs is None else outputs)[0]

    # -- forward -----------------------------------------------------------------------------

    def flow(self, copy: Copy) -> Flow:
        """Return what needs gradients inside of a copy."""
        if copy not in self.flows:
            flow = self.flows[copy] = Flow({Ref(p, p) for p in copy.ins})
            for node in copy.graph.nodes.values():
                flow.needed |= {Ref(node.name, w) for w in self._trained(node, copy)}
                outs = self._op_outputs(node, flow) if node.op else self._block_outputs(node, copy, flow)
                flow.needed |= {Ref(node.name, p) for p in outs}
        return self.flows[copy]

    def _trained(self, node: Node, copy: Copy) -> Iterator[str]:
        for name, weight in node.weights.items():
            if weight.trained and not copy.place.freezes(join(node.at, name)):
                yield name

    def _op_outputs(self, node: Node, flow: Flow) -> Ports:
        stops = (node.op and not node.op.differentiable) or not self.operands(node, flow)
        return NONE if stops else frozenset(p for p, t in node.outputs.items() if t.dtype is ElementType.FLOAT)

    def operands(self, node: Node, flow: Flow) -> Ports:
        """Return the inputs and weights of a node that need gradients."""
        read = {p for p, ref in node.sources.items() if ref in flow.needed}
        return frozenset(read | {w for w in node.weights if Ref(node.name, w) in flow.needed})

    def _block_outputs(self, node: Node, copy: Copy, flow: Flow) -> Ports:
        read = self.operands(node, flow)
        carried = frozenset(node.carried)
        state, outs, found = read & carried, NONE, flow.copies.setdefault(node.name, [])
        for part in alike(node, copy.place):
            left = part.count if isinstance(part.count, int) or node.mode is Mode.EACH else SAMPLE
            while left:
                one = Copy(part.graph, state | (read - carried), part.place)
                given = self.given(one)
                equal = left if given & carried == state else 1  # nothing is carried among copies side by side
                found.append((one, equal))
                state, outs, left = given & carried, outs | (given - carried), left - equal
        return state | outs

    def given(self, copy: Copy) -> Ports:
        """Return the outputs of a copy that need gradients."""
        needed = self.flow(copy).needed
        return frozenset(p for p, ref in copy.graph.outputs.items() if ref in needed)

    # -- backward ----------------------------------------------------------------------------

    def costs(self, copy: Copy, outputs: Ports) -> tuple[Costs, Ports]:
        """Return FLOPs by op from gradients of ``outputs``, and the inputs that get gradients."""
        if (copy, outputs) not in self.memo:
            self.memo[copy, outputs] = self._costs(copy, outputs)
        return self.memo[copy, outputs]

    def _costs(self, copy: Copy, outputs: Ports) -> tuple[Costs, Ports]:
        flow, found = self.flow(copy), dict[Key, Size]()
        got = {copy.graph.outputs[p] for p in outputs} & flow.needed
        for node in reversed(copy.graph.nodes.values()):
            ports = frozenset(p for p in node.outputs if Ref(node.name, p) in got)
            of_model = copy.graph is self.model
            if not ports and not (
                self.balanced and self._routes(node) and not (of_model and node.name in self.unbalanced)
            ):
                continue
            idle = self.idle.get(node.name, ()) if of_model else ()
            passed = self._op(node, copy, flow, found) if node.op else self._block(node, flow, ports, found, idle)
            got |= {node.sources[p] for p in passed if p in node.sources} & flow.needed
        return found, frozenset(p for p in copy.graph.inputs if Ref(p, p) in got)

    def _routes(self, node: Node) -> bool:
        """Return whether a line is a router, or a block with one inside."""
        if node.op:
            return any(weight.kind is WeightKind.CHOICE for weight in node.weights.values())
        for graph in (copies.graph for copies in node.copies):
            if graph not in self.chooses:
                self.chooses[graph] = any(map(self._routes, graph.nodes.values()))
        return any(self.chooses[copies.graph] for copies in node.copies)

    def _op(self, node: Node, copy: Copy, flow: Flow, found: dict[Key, Size]) -> Ports:
        assert node.op is not None
        needed = self.operands(node, flow)
        total: Size = 0
        known = known_types(copy.graph, node)
        op = self.counter.effective_op(node.op, node.input_types)
        for product in op.products(known, node.outputs, self.counter.attention):
            total = total + product.flops * sum(not needed.isdisjoint(ports) for ports in product.operands)
        if total:
            found[((node.name, 0),)] = total
        return needed

    def _block(self, node: Node, flow: Flow, ports: Ports, found: dict[Key, Size], idle: Sequence[Ports] = ()) -> Ports:
        carried, unread, quiet = frozenset(node.carried), [*idle], bool(idle) and node.name in self.unbalanced
        state, passed, steps = ports & carried, NONE, dict[tuple[Copy, Ports], Size]()
        for one, left in reversed(flow.copies[node.name]):
            while left:
                wanted = (state | (ports - carried - (unread.pop() if unread else NONE))) & self.given(one)
                got = self.costs(one, wanted)[1] if wanted or not quiet else NONE
                equal = left if got & carried == state and not idle else 1
                state, passed, left = got & carried, passed | (got - carried), left - equal
                if wanted or not quiet:
                    steps[one, wanted] = steps.get((one, wanted), 0) + equal
        place = {graph: i for i, graph in enumerate(dict.fromkeys(copies.graph for copies in node.copies))}
        for which, count in self._counted(node, steps):
            index = place[which[0].graph]
            for key, size in self.costs(*which)[0].items():
                whole = ((node.name, index), *key)
                found[whole] = found.get(whole, 0) + size * count
        return state | passed

    def _counted(self, node: Node, steps: dict[tuple[Copy, Ports], Size]) -> Iterator[tuple[tuple[Copy, Ports], Size]]:
        """Yield each different step with how often it is taken; one for all where their number is open."""
        if node.mode is Mode.EACH or all(isinstance(copies.count, int) for copies in node.copies):
            yield from steps.items()
            return
        first, *others = steps
        if len(node.copies) > 1 or any(self.costs(*which)[0] != self.costs(*first)[0] for which in others):
            raise Unequal
        yield first, node.count
