"""What the backward pass costs: where gradients flow, and one product for each operand that needs one.

A value needs a gradient if a trained weight went into it; it gets one if an output depends on it by
ops that pass gradients on. A product y = a b costs as much again for each of a and b that needs one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import NamedTuple

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Model, Node, Ref, join
from dsvgraph.ops.tape import Key
from dsvgraph.passes.needs import Ports
from dsvgraph.passes.tally import Meter, known_types
from dsvgraph.patterns import Patterns

Costs = Mapping[Key, Size]
SAMPLE = 3  # copies that stand for a number of them that is open: the first, the last, one between
NONE: Ports = frozenset()


class Unequal(Exception):
    """Copies of an open number differ, so that their cost is no formula."""


class Copy(NamedTuple):
    """One copy of a block: which of its inputs need gradients, and its frozen weights by relative path."""

    graph: Graph
    ins: Ports
    frozen: Ports


@dataclass
class Flow:
    """The values of one graph that need gradients, as refs, and each block's copies in order, alike ones once."""

    needed: set[Ref] = field(default_factory=set)
    copies: dict[str, list[tuple[Copy, int]]] = field(default_factory=dict)


def backward(model: Model, meter: Meter, outputs: Ports | None = None) -> Costs:
    """FLOPs of the backward pass from every output, or from some, by op, all its copies together.

    Raises Unequal where copies of an open number differ.
    """
    return Backward(meter).of(model, outputs)


def below(costs: Costs) -> Costs:
    """What lies below each key, and below what encloses it: a sum for every place in the graph."""
    found: dict[Key, Size] = {}
    for key, size in costs.items():
        for end in range(len(key) + 1):
            found[key[:end]] = found.get(key[:end], 0) + size
    return found


def frozen_paths(model: Model) -> Ports:
    """Paths of the weights that the spec's section `trained` freezes."""
    if not model.trained:
        return NONE
    frozen = frozenset(i for i, (_, trained) in enumerate(model.trained) if not trained)
    patterns = Patterns([pattern for pattern, _ in model.trained])
    return frozenset(_frozen(model, "", patterns, patterns.begin(), frozen))


def _frozen(graph: Graph, prefix: str, patterns: Patterns, state: int, frozen: frozenset[int]) -> Iterator[str]:
    """Paths below ``prefix``, behind which the patterns are in ``state``, whose last pattern is one of ``frozen``."""
    for node in graph.nodes.values():
        for weight in node.weights:
            text = _below(prefix, join(node.at, weight))
            if patterns.last(patterns.after(state, text)) in frozen:
                yield prefix + text
        for number, copy in node.copy_graphs():
            text = _below(prefix, node.segment(number))
            yield from _frozen(copy, prefix + text, patterns, patterns.after(state, text), frozen)


def _below(prefix: str, path: str) -> str:
    """What a path below ``prefix`` adds to it."""
    return f".{path}" if prefix and path else path


class Backward:
    """Both ways through a graph: forward for what needs gradients, backward for what gets them.

    Blocks that models share are looked at once.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.flows: dict[Copy, Flow] = {}
        self.memo: dict[tuple[Copy, Ports], tuple[Costs, Ports]] = {}

    def of(self, model: Model, outputs: Ports | None = None) -> Costs:
        """What `backward` tells of a model."""
        frozen = frozen_paths(model)
        return self.costs(Copy(model, NONE, frozen), frozenset(model.outputs) if outputs is None else outputs)[0]

    # -- forward -----------------------------------------------------------------------------

    def flow(self, copy: Copy) -> Flow:
        """What needs gradients inside of a copy."""
        if copy not in self.flows:
            flow = self.flows[copy] = Flow({Ref(p, p) for p in copy.ins})
            for node in copy.graph.nodes.values():
                flow.needed |= {Ref(node.name, w) for w in self._trained(node, copy)}
                outs = self._op_outputs(node, flow) if node.op else self._block_outputs(node, copy, flow)
                flow.needed |= {Ref(node.name, p) for p in outs}
        return self.flows[copy]

    def _trained(self, node: Node, copy: Copy) -> Iterator[str]:
        for name, weight in node.weights.items():
            if weight.trained and join(node.at, name) not in copy.frozen:
                yield name

    def _op_outputs(self, node: Node, flow: Flow) -> Ports:
        stops = (node.op and not node.op.differentiable) or not self.operands(node, flow)
        return NONE if stops else frozenset(p for p, t in node.outputs.items() if t.dtype == "float")

    def operands(self, node: Node, flow: Flow) -> Ports:
        """The inputs and weights of a node that need gradients."""
        read = {p for p, ref in node.sources.items() if ref in flow.needed}
        return frozenset(read | {w for w in node.weights if Ref(node.name, w) in flow.needed})

    def _block_outputs(self, node: Node, copy: Copy, flow: Flow) -> Ports:
        read = self.operands(node, flow)
        carried = frozenset(p for p, role in node.roles.items() if role == "carried")
        state, outs, found = read & carried, NONE, flow.copies.setdefault(node.name, [])
        for graph, numbers in _copies(node):
            while numbers:
                one = Copy(graph, state | (read - carried), inside(copy.frozen, node.segment(numbers[0])))
                given = self.given(one)
                alike = len(numbers) if given & carried == state and not copy.frozen else 1
                found.append((one, alike))
                state, outs, numbers = given & carried, outs | (given - carried), numbers[alike:]
        return state | outs

    def given(self, copy: Copy) -> Ports:
        """The outputs of a copy that need gradients."""
        needed = self.flow(copy).needed
        return frozenset(p for p, ref in copy.graph.outputs.items() if ref in needed)

    # -- backward ----------------------------------------------------------------------------

    def costs(self, copy: Copy, outputs: Ports) -> tuple[Costs, Ports]:
        """FLOPs by op from gradients of ``outputs``, and the inputs that get gradients."""
        if (copy, outputs) not in self.memo:
            self.memo[copy, outputs] = self._costs(copy, outputs)
        return self.memo[copy, outputs]

    def _costs(self, copy: Copy, outputs: Ports) -> tuple[Costs, Ports]:
        flow, found = self.flow(copy), dict[Key, Size]()
        got = {copy.graph.outputs[p] for p in outputs} & flow.needed
        for node in reversed(copy.graph.nodes.values()):
            ports = frozenset(p for p in node.outputs if Ref(node.name, p) in got)
            if not ports:
                continue
            passed = self._op(node, copy, flow, found) if node.op else self._block(node, flow, ports, found)
            got |= {node.sources[p] for p in passed if p in node.sources} & flow.needed
        return found, frozenset(p for p in copy.graph.inputs if Ref(p, p) in got)

    def _op(self, node: Node, copy: Copy, flow: Flow, found: dict[Key, Size]) -> Ports:
        assert node.op is not None
        needed = self.operands(node, flow)
        total: Size = 0
        known = known_types(copy.graph, node)
        op = self.meter.seen(node.op, node.ins)
        for product in op.products(known, node.outputs, self.meter.attention):
            total = total + product.flops * sum(not needed.isdisjoint(ports) for ports in product.operands)
        if total:
            found[((node.name, 0),)] = total
        return needed

    def _block(self, node: Node, flow: Flow, ports: Ports, found: dict[Key, Size]) -> Ports:
        carried = frozenset(p for p, role in node.roles.items() if role == "carried")
        state, passed, steps = ports & carried, NONE, dict[tuple[Copy, Ports], Size]()
        each = [run.count for run in node.runs] if node.mode == "each" else []  # as many as there are copies to look at
        for one, left in reversed(flow.copies[node.name]):
            while left:
                wanted = (state | (ports - carried)) & self.given(one)
                got = self.costs(one, wanted)[1]
                alike = left if got & carried == state else 1
                state, passed, left = got & carried, passed | (got - carried), left - alike
                steps[one, wanted] = steps.get((one, wanted), 0) + (each.pop() if each else alike)
        place = {graph: i for i, graph in enumerate(dict.fromkeys(run.graph for run in node.runs))}
        for which, count in self._counted(node, steps):
            index = place[which[0].graph]
            for key, size in self.costs(*which)[0].items():
                whole = ((node.name, index), *key)
                found[whole] = found.get(whole, 0) + size * count
        return state | passed

    def _counted(self, node: Node, steps: dict[tuple[Copy, Ports], Size]) -> Iterator[tuple[tuple[Copy, Ports], Size]]:
        """Each different step with how often it is taken; one for all where their number is open."""
        if node.mode == "each" or all(isinstance(run.count, int) for run in node.runs):
            yield from steps.items()
            return
        first, *others = steps
        if len(node.runs) > 1 or any(self.costs(*which)[0] != self.costs(*first)[0] for which in others):
            raise Unequal
        yield first, node.count


def _copies(node: Node) -> list[tuple[Graph, Sequence[Size]]]:
    """The copies to look at, by runs of one graph, with their numbers: all of a chain, of `each` one a run."""
    if node.mode == "each":
        starts = accumulate((run.count for run in node.runs[:-1]), initial=node.start)
        return [(run.graph, [start]) for run, start in zip(node.runs, starts, strict=True)]
    if not all(isinstance(run.count, int) for run in node.runs):
        return [(node.runs[0].graph, range(SAMPLE))]
    copies = groupby(node.copy_graphs(), key=lambda copy: copy[1])
    return [(graph, [number for number, _ in equal]) for graph, equal in copies]


def inside(frozen: Ports, segment: str) -> Ports:
    """Paths below ``segment``, relative to it."""
    if not segment or not frozen:
        return frozen
    return frozenset(p.removeprefix(f"{segment}.") for p in frozen if p.startswith(f"{segment}."))
