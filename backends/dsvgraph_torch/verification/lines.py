"""What the cost counts for each line of a compiled module: the other side of flops.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dsvgraph.dims import Size
from dsvgraph.graph import Graph, Mode, Model, Node
from dsvgraph.ops.tape import Key
from dsvgraph.passes.count.gradients import Costs, backward
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import input_sizes, tokens
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.graph.paths import bracketed
from dsvgraph_torch.lowering.writer import place
from dsvgraph_torch.verification.counter import CallSite

Step = str | frozenset[int]  # of a path: a name, or the numbers of equal copies
Path = tuple[Step, ...]


class OpCopies(NamedTuple):
    """All copies of one op: its place in the graph, its modules' paths, its line, its FLOPs."""

    key: Key
    paths: tuple[Path, ...]
    place: str
    forward: int
    backward: int

    @property
    def path(self) -> str:
        """The path of its module, copies as a range."""
        return ".".join(_text(step) for step in self.paths[0]) if self.paths else ""

    def holds(self, site: CallSite) -> bool:
        """Return whether an op at ``site`` can be this one."""
        steps = site.module.split(".") if site.module else []
        return any(len(path) == len(steps) and all(map(_fits, path, steps)) for path in self.paths)


def _fits(step: Step, text: str) -> bool:
    return text == step if isinstance(step, str) else text.isdigit() and int(text) in step


def _text(step: Step) -> str:
    if isinstance(step, str):
        return step
    whole = len(step) == max(step) - min(step) + 1 if step else False
    return f"[{min(step)}-{max(step)}]" if whole and len(step) > 1 else bracketed([str(n) for n in sorted(step)])


def op_copies(model: Model, batch: int, seq: int) -> Iterator[OpCopies]:
    """Yield one record for each op of ``model``, with attention as whole squares."""
    counter = GraphCounter(tokens(model), input_sizes(model, batch, seq), "square")
    yield from _Walk(counter, backward(model, counter)).inside(model, ((),), (), 1)


class _Walk(NamedTuple):
    """Goes through a model, op by op."""

    counter: GraphCounter
    costs: Costs

    def inside(self, graph: Graph, paths: tuple[Path, ...], key: Key, copies: Size) -> Iterator[OpCopies]:
        for node in graph.nodes.values():
            if node.op:
                yield self._unit(graph, node, paths, key, copies)
            for i, inner in enumerate(dict.fromkeys(group.graph for group in node.copies)):
                count = sum(group.count for group in node.copies if group.graph is inner)
                below_it = (*key, (node.name, i))
                yield from self.inside(inner, _paths(node, inner, paths), below_it, copies * count)

    def _unit(self, graph: Graph, node: Node, paths: tuple[Path, ...], key: Key, copies: Size) -> OpCopies:
        whole = self.counter.dependencies.whole(graph)
        forward = self.counter.node(graph, node, whole, True).forward * copies
        own = (*key, (node.name, 0))
        flops, back = (int(number(size, self.counter.values)) for size in (forward, self.costs.get(own, 0)))
        return OpCopies(key=own, paths=paths, place=place(node), forward=flops, backward=back)


def _paths(node: Node, inner: Graph, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return where the lines of ``inner`` run: in modules of their own, or in the caller's if it has no address."""
    at = tuple(node.at.split(".")) if node.at else ()
    there = tuple((*path, *at) for path in paths)
    if node.mode is Mode.CALL:
        return there
    numbers = frozenset(int(n) for n, graph in node.copy_graphs() if graph is inner)  # type: ignore[arg-type]
    copies = tuple((*path, numbers) for path in there)
    if node.mode is Mode.REPEAT:
        return copies
    if len(node.copies) == 1:
        return (*copies, *there)  # experts side by side are one module
    groups = frozenset(i for i, group in enumerate(node.copies) if group.graph is inner)
    return (*copies, *((*path, "runs", groups) for path in there))  # one for each group of equal ones
