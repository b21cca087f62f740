"""What a forward pass runs, in its order, and how values on the way are measured.

Shape legend: B rows, T tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dsvgraph.graph import Graph, Mode, Node, join
from dsvgraph.passes.graph.instances import CopyIndex


@dataclass(frozen=True)
class LineRun:
    """One run of a line in a forward pass: its address, its node, and which use of its weights it is."""

    path: str
    node: Node
    use: int = 0
    index: CopyIndex = ()


def runs(graph: Graph, prefix: str = "", index: CopyIndex = ()) -> Iterator[LineRun]:
    """Yield the lines of a model in the order in which a forward pass runs them, copies written out."""
    for node in graph.nodes.values():
        if node.name in graph.weight_only:
            continue
        if node.op is not None or node.mode is Mode.EACH:
            yield LineRun(join(prefix, node.at), node, index=index)
            continue
        for use, (number, copy) in enumerate(node.copy_graphs()):
            path = join(prefix, node.segment(number))
            yield LineRun(path, node, use=use if node.reused else 0, index=index)
            yield from runs(copy, path, (*index, use) if node.reused else index)


@dataclass
class Means:
    """Means by name, over positions of all batches."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """Add the values of some positions."""
        self.sums[name] = self.sums.get(name, 0.0) + float(values.double().sum())
        self.counts[name] = self.counts.get(name, 0) + values.numel()

    def __getitem__(self, name: str) -> float:
        return self.sums[name] / self.counts[name] if self.counts.get(name) else math.nan


def rms(x: Tensor) -> Tensor:
    """Return the root mean square of every position, [B, T]."""
    return x.float().flatten(2).square().mean(-1).sqrt()


def entropy(p: Tensor) -> Tensor:
    """Return the entropy of distributions along the last axis, in nats."""
    return torch.special.entr(p).sum(-1)


@contextmanager
def hooked(module: nn.Module, measure: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(measure)
    try:
        yield
    finally:
        handle.remove()
