"""Two models as one graph: the lines of the second, those that only the first has, and a mark on what differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dsvgraph.dims import Size
from dsvgraph.errors import DsvError
from dsvgraph.graph import Copies, Graph, Mode, Model, Node, Ref
from dsvgraph.passes.compare.lines import aligned, differences, is_variant
from dsvgraph.passes.compare.matching import matched_lines
from dsvgraph_graphviz.model.copies import chains

Real = tuple[Graph, Node]


@dataclass
class NodeDiff:
    """What differs at one line: (kind, before, after), the line in each model, and wires that are gone."""

    found: Sequence[tuple[str, str, str]] = field(default_factory=list)
    old: Real | None = None
    new: Real | None = None
    gone: dict[str, Ref] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)  # ports whose wire is new
    copies: tuple[Size, Size] | None = None  # before and after, where the number of copies changes

    @property
    def kinds(self) -> list[str]:
        """added, removed, replaced, resized, changed, rewired, renamed; none where only something inside differs."""
        return [kind for kind, _, _ in self.found]


@dataclass
class ComparedGraph:
    """Builds the graph of both models.

    ``diffs`` has what differs, by the id of a node of that graph; ``real`` the body whose counts a body of it has.
    """

    diffs: dict[int, NodeDiff] = field(default_factory=dict)
    real: dict[Graph, Graph] = field(default_factory=dict)
    nodes: dict[int, Real] = field(default_factory=dict)
    _chains: set[str] = field(default_factory=set)  # drawn copy by copy
    _differ: dict[tuple[Graph, Graph], bool] = field(default_factory=dict)
    _made: dict[tuple[Graph, Graph], Graph] = field(default_factory=dict)

    def model(self, a: Model, b: Model) -> Model:
        """Return both models as one; its losses are those of the deeper chain."""
        for model in (a, b):
            if model.spec is not None and model.spec.symbolic:
                raise DsvError("--diff compares numbers; give a value to every name")
        self._chains = {node.name for model in (a, b) for node in chains(model)}
        deeper = b if b.depths >= a.depths else a
        both = replace(b, nodes={}, inputs={**a.inputs, **b.inputs}, losses=deeper.losses)
        self._fill(both, a, b)
        both.outputs = {**dict(self._outputs(a, b, both)), **b.outputs}
        return both

    def _outputs(self, a: Graph, b: Graph, both: Graph) -> Iterator[tuple[str, Ref]]:
        """Outputs that only the first has, where what makes them is still there."""
        names = {old.name: new.name for old, new in matched_lines(a, b)}
        for name, ref in a.outputs.items():
            ref = Ref(names.get(ref.node, ref.node), ref.port)
            if ref.node in both.nodes and ref.port in both.nodes[ref.node].outputs:
                yield name, ref

    def graph(self, a: Graph, b: Graph) -> Graph:
        """Return one body of both; equal pairs are one object."""
        if not self.differ(a, b):
            return b
        if (a, b) not in self._made:
            self._made[a, b] = both = replace(b, nodes={})
            self._fill(both, a, b)
        return self._made[a, b]

    def differ(self, a: Graph, b: Graph) -> bool:
        """Return whether two bodies differ in any line, or inside one."""
        if (a, b) not in self._differ:
            found = [] if a is b else matched_lines(a, b)
            names = {old.name: new.name for old, new in found}
            other = a is not b and len(found) < max(len(a.nodes), len(b.nodes))
            self._differ[a, b] = other or any(
                next(differences(a, b, old, new, names), None) or self._differ_inside(old, new) for old, new in found
            )
        return self._differ[a, b]

    def _differ_inside(self, old: Node, new: Node) -> bool:
        groups = zip(old.copies, new.copies, strict=False)
        return len(old.copies) != len(new.copies) or any(self.differ(one.graph, two.graph) for one, two in groups)

    def _fill(self, both: Graph, a: Graph, b: Graph) -> None:
        self.real[both] = b
        olds = {new.name: old for old, new in matched_lines(a, b)}
        names = {old.name: new for new, old in olds.items()}
        nodes = {name: self._kept(a, b, olds.get(name), node, names) for name, node in b.nodes.items()}
        order = list(b.nodes)
        for node in a.nodes.values():
            if node.name not in names:
                nodes[node.name] = self._removed(a, node, names)
                after = [order.index(ref.node) + 1 for ref in nodes[node.name].sources.values() if ref.node in order]
                order.insert(max(after, default=0), node.name)
        for name in order:
            self._link(both, nodes[name])

    @staticmethod
    def _link(both: Graph, node: Node) -> None:
        """Add a node with those of its wires that come from somewhere."""
        for wires in (node.inputs, node.tied):
            for port, ref in list(wires.items()):
                if not _is_there(both, ref):
                    del wires[port]
        both.link(node)

    def _kept(self, a: Graph, b: Graph, old: Node | None, new: Node, names: dict[str, str]) -> Node:
        """Return a line of the second model."""
        node = replace(new, inputs=dict(new.inputs), tied=dict(new.tied))
        self.nodes[id(node)] = (b, new)
        if old is None:
            self.diffs[id(node)] = NodeDiff([("added", "", _said(new))], new=(b, new))
            return node
        found = list(differences(a, b, old, new, names))
        mark = NodeDiff(found, (a, old), (b, new))
        if "rewired" in mark.kinds:
            self._wires(mark, old, new, names)
        if is_variant(old, new) and ((old.copies and new.copies) or new.name in self._chains):
            node.copies = tuple(self._copies(old, new))
            node.count = sum((copies.count for copies in node.copies), start=0) if new.mode is not Mode.CALL else 1
        if old.count != new.count:
            mark.copies = (old.count, new.count)
        inside = [copies.graph for copies in node.copies] != [copies.graph for copies in new.copies]
        if found or inside:
            self.diffs[id(node)] = mark
        return node

    def _removed(self, a: Graph, node: Node, names: dict[str, str]) -> Node:
        """Return a line that only the first model has, wired to what its sources have become."""
        wires = [{p: Ref(names.get(r.node, r.node), r.port) for p, r in w.items()} for w in (node.inputs, node.tied)]
        ghost = replace(node, inputs=wires[0], tied=wires[1])
        self.diffs[id(ghost)] = NodeDiff([("removed", _said(node), "")], old=(a, node))
        self.nodes[id(ghost)] = (a, node)
        return ghost

    def _copies(self, old: Node, new: Node) -> Iterator[Copies]:
        """Yield the copies of both side by side, then those that only the second has; of a chain the first's too."""
        if new.mode is Mode.CALL or old.mode is Mode.CALL:
            yield Copies(self.graph(old.copies[0].graph, new.copies[0].graph), 1)
            return
        done = 0
        for (one, other), count in aligned(old, new):
            yield Copies(self.graph(one, other), count)
            done += count
        for node in (new, old) if new.name in self._chains else (new,):
            yield from _after(node, done)
            done = max(done, int(node.count))  # type: ignore[arg-type]

    @staticmethod
    def _wires(mark: NodeDiff, old: Node, new: Node, names: dict[str, str]) -> None:
        for port in {**old.sources, **new.sources}:
            before, after = old.sources.get(port), new.sources.get(port)
            before = before and Ref(names.get(before.node, before.node), before.port)
            if before != after:
                mark.gone |= {port: before} if before else {}
                mark.fresh |= {port} if after else set()


def diffs_of(comparison: ComparedGraph | None, nodes: Iterable[Node]) -> list[NodeDiff]:
    """Return what differs at ``nodes``: nothing where one model is drawn alone."""
    return [comparison.diffs[id(node)] for node in nodes if comparison and id(node) in comparison.diffs]


def _after(node: Node, done: int) -> Iterator[Copies]:
    """Yield the copies of a node from number ``done`` on."""
    for copies in node.copies:
        count = int(copies.count)  # type: ignore[arg-type]
        if count > done:
            yield Copies(copies.graph, count - max(done, 0))
        done -= count


def _is_there(both: Graph, ref: Ref) -> bool:
    if ref.node in both.inputs:
        return True
    node = both.nodes.get(ref.node)
    return node is not None and (ref.port in node.outputs or ref.port in node.weights or ref.port in node.input_types)


def _said(node: Node) -> str:
    return node.callee if node.mode is Mode.CALL else f"{node.callee} × {node.count}"
