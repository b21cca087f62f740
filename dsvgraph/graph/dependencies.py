"""What outputs depend on, port by port and through blocks: what remains when heads are dropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dsvgraph.graph.nodes import Copies, Graph, Node

Ports = frozenset[str]


@dataclass(frozen=True)
class Dependencies:
    """The part of one graph that some of its outputs depend on.

    ``ports`` holds, for each node that is needed, which of its outputs (or weights) are,
    ``copies`` which outputs each group of equal copies must give, ``inputs`` which inputs are read.
    """

    inputs: Ports
    ports: dict[str, Ports]
    copies: dict[str, tuple[Ports, ...]] = field(default_factory=dict)

    def computes(self, node: Node) -> bool:
        """Return whether the node runs; one of which only a weight is read does not."""
        return not self.ports.get(node.name, frozenset()).isdisjoint(node.outputs)

    def outputs_by_graph(self, node: Node) -> dict[Graph, Ports]:
        """Return the outputs that are needed of each distinct graph of ``node``, in any of its copies."""
        found: dict[Graph, Ports] = {copies.graph: frozenset() for copies in node.copies}
        for copies, outputs in zip(node.copies, self.copies.get(node.name, ()), strict=False):
            found[copies.graph] |= outputs
        return found


class DependencyAnalysis:
    """Answers what outputs depend on; equal questions are answered once."""

    def __init__(self) -> None:
        self.memo: dict[tuple[Graph, Ports], Dependencies] = {}

    def of(self, graph: Graph, outputs: Iterable[str]) -> Dependencies:
        """Return what the named ``outputs`` of ``graph`` depend on."""
        key = (graph, frozenset(outputs))
        if key not in self.memo:
            self.memo[key] = self._trace(*key)
        return self.memo[key]

    def whole(self, graph: Graph) -> Dependencies:
        """Everything in ``graph``, needed or not; no output of lines of which only the weights are read."""
        ports = {
            n: frozenset(node.weights if n in graph.weight_only else node.outputs) for n, node in graph.nodes.items()
        }
        copies = {name: tuple(frozenset(r.graph.outputs) for r in n.copies) for name, n in graph.nodes.items()}
        return Dependencies(frozenset(graph.inputs), ports, copies)

    def _trace(self, graph: Graph, outputs: Ports) -> Dependencies:
        """Walk the body backwards; its lines are in topological order."""
        wanted: dict[str, set[str]] = defaultdict(set)
        copies: dict[str, tuple[Ports, ...]] = {}
        for name in outputs:
            wanted[graph.outputs[name].node].add(graph.outputs[name].port)
        for name in reversed(graph.nodes):
            if name in wanted:
                read, copies[name] = self._reads(graph.nodes[name], frozenset(wanted[name]))
                for port, ref in graph.nodes[name].sources.items():
                    if port in read:
                        wanted[ref.node].add(ref.port)
        ports = {name: frozenset(found) for name, found in wanted.items() if name in graph.nodes}
        return Dependencies(frozenset(wanted.keys() & graph.inputs.keys()), ports, copies)

    def _reads(self, node: Node, ports: Ports) -> tuple[Ports, tuple[Ports, ...]]:
        """Return the ports that ``node`` must read to give ``ports``, and what each group of its copies must give."""
        if node.op:
            return (frozenset() if ports.isdisjoint(node.outputs) else frozenset(node.sources)), ()
        carried = frozenset(node.carried)
        state, read, found = ports & carried, frozenset[str](), []
        for copies in reversed(node.copies):
            wanted = self._settled(copies, state | (ports - carried), carried)
            inputs = self.of(copies.graph, wanted).inputs
            state, read = inputs & carried, read | (inputs - carried)
            found.append(wanted)
        return state | read, tuple(reversed(found))

    def _settled(self, copies: Copies, wanted: Ports, carried: Ports) -> Ports:
        """Return what every one of equal copies must give, so that the next copy gets what it carries."""
        while copies.count != 1:
            more = wanted | (self.of(copies.graph, wanted).inputs & carried)
            if more == wanted:
                break
            wanted = more
        return wanted
