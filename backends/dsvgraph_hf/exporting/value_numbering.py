"""Value numbering: what a graph computes, independent of the names of its lines and blocks.

Two values have one number where they are made by the same op, with the same attributes, of the
same values, and weights where they have the same path and shape. This is value numbering, as
compilers find common subexpressions with (Alpern, Wegman and Zadeck, POPL 1988).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsvgraph.graph import Graph, Mode, Model, Node, PortRole, Ref, join
from dsvgraph.ops import Op
from dsvgraph_hf.config.graph_reader import OpsByPath
from dsvgraph_hf.config.rope import normalized_scaling

COMMUTES = ("add", "mul")
EMPTY_STACK = "empty stack"  # of a line with no copies


class ValueNumbers:
    """Numbers of values, shared by all graphs that are compared."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def __call__(self, *key: Any) -> int:
        """Return the number of the value that ``key`` describes."""
        return self.known.setdefault(key, len(self.known))

    def of(self, model: Model) -> NumberedModel:
        """Return the numbers of a model, with the copies of a repeat one by one; those of an each stay folded."""
        found = NumberedModel()
        walk = _Walk(self, found)
        given = {name: self("input", str(type_)) for name, type_ in model.inputs.items()}
        outputs = walk.graph(model, "", given)
        found.outputs = {name: number for name, number in outputs.items() if number != self(EMPTY_STACK)}
        return found


class NumberedModel:
    """The numbers of a model's outputs, and its ops by path."""

    def __init__(self) -> None:
        self.outputs: dict[str, int] = {}
        self.ops = OpsByPath()


class _Walk:
    def __init__(self, number: ValueNumbers, found: NumberedModel) -> None:
        self.number, self.found = number, found
        self.keys: dict[Node, Any] = {}  # copies share their nodes

    def graph(self, graph: Graph, prefix: str, given: Mapping[str, int]) -> dict[str, int]:
        """Return the numbers of a graph's outputs, from those of its inputs."""
        values: dict[Ref, int] = {Ref(name, name): number for name, number in given.items()}
        for node in graph.nodes.values():
            ins = {port: values[ref] for port, ref in node.sources.items()}
            values |= {Ref(node.name, port): n for port, n in ins.items()}
            path = join(prefix, node.at)
            weights = {p: self.number("weight", join(path, p), w.type, w.trained) for p, w in node.weights.items()}
            values |= {Ref(node.name, port): n for port, n in weights.items()}
            outs = self.op(node, node.op, path, {**ins, **weights}) if node.op else self.block(node, prefix, ins)
            values |= {Ref(node.name, port): n for port, n in outs.items()}
        return {name: values[ref] for name, ref in graph.outputs.items()}

    def op(self, node: Node, op: Op, path: str, ins: Mapping[str, int]) -> dict[str, int]:
        self.found.ops.add(path, node)
        if op.op == "dropout" and op.model_dump()["p"] == 0:
            return {port: ins[next(iter(node.inputs))] for port in node.outputs}
        wired = tuple(sorted(ins.values())) if op.op in COMMUTES else tuple(sorted(ins.items()))
        if node not in self.keys:
            self.keys[node] = (op.op, _frozen(attributes(node, op)))
        return {port: self.number(*self.keys[node], wired, port) for port in node.outputs}

    def block(self, node: Node, prefix: str, ins: Mapping[str, int]) -> dict[str, int]:
        if node.mode is Mode.CALL:
            return self.graph(node.copies[0].graph, join(prefix, node.at), ins)
        if node.mode is Mode.EACH:
            return self.each(node, prefix, ins)
        return self.repeat(node, prefix, dict(ins))

    def each(self, node: Node, prefix: str, ins: Mapping[str, int]) -> dict[str, int]:
        """Return the numbers of parallel copies; equal copies are visited once, with a range as their path."""
        found: dict[str, list[Any]] = {port: [] for port in node.outputs}
        start = node.start
        for copies in node.copies:
            path = join(prefix, node.at, f"[{start}-{start + copies.count - 1}]")
            sliced = {p: n if node.roles[p] is PortRole.SHARED else self.number("piece", n) for p, n in ins.items()}
            for port, number in self.graph(copies.graph, path, sliced).items():
                found[port].append((number, copies.count))
            start = start + copies.count
        return {port: self.number("side by side", *numbers) for port, numbers in found.items()}

    def repeat(self, node: Node, prefix: str, ins: dict[str, int]) -> dict[str, int]:
        """Return the numbers of a chain of copies, visited one by one."""
        stacked: dict[str, list[int]] = {port: [] for port in node.outputs if port not in node.carried}
        for i, (number, graph) in enumerate(node.copy_graphs()):
            given = {p: self.number("piece", i, n) if node.roles[p] is PortRole.SLICED else n for p, n in ins.items()}
            outs = self.graph(graph, join(prefix, node.segment(number)), given)
            ins |= {port: n for port, n in outs.items() if port in node.carried}
            for port, numbers in stacked.items():
                numbers.append(outs[port])
        whole = {
            port: self.number("stack", *found) if found else self.number(EMPTY_STACK) for port, found in stacked.items()
        }
        return {port: whole.get(port, ins.get(port, 0)) for port in node.outputs}


def attributes(node: Node, op: Op) -> dict[str, Any]:
    """Return the attributes that change what an op computes, with equivalent values made equal."""
    found = op.model_dump()
    if op.op == "embedding":
        return {}  # its sizes are those of its weight
    if op.op == "rope":
        found["scaling"] = normalized_scaling(found["scaling"])
    if op.op == "attention":
        usual = node.input_types["q"].shape[-1] ** -0.5 if found["scale"] is None else found["scale"]
        found["scale"] = float(f"{usual:.12g}")
    if op.op == "router" and found["groups"] == 1:
        found |= {"group_score": "", "top_groups": 1}
    return found


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((k, _frozen(v)) for k, v in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_frozen(v) for v in value)
    return value
