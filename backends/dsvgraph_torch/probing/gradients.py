"""Norms and cosines of the gradients of each depth's loss, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.backends.probes import Gradients
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Mode, Model, Node, join
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.probing.heads import Head
from dsvgraph_torch.probing.statistics import over_batches


@dataclass(frozen=True)
class Layer:
    """A part of a model: the weights below ``path``, and whether the reference output is computed from them."""

    path: str
    trunk: bool


def layers(graph: Model, reference: Head) -> list[Layer]:
    """Return the parts of a model in the order of its lines: each copy of a repeated line is one, each other line too.

    Blocks that are called once and repeat a line within are gone into.
    """
    return list(dict.fromkeys(_layers(graph, "", graph.needed([str(reference.prediction.loss.output)]))))


def _layers(graph: Graph, prefix: str, trunk: set[str] | None) -> Iterator[Layer]:
    """``trunk`` are the lines that the reference needs, None for all of them."""
    for node in graph.nodes.values():
        needed = trunk is None or node.name in trunk
        if node.mode is Mode.REPEAT:
            for number, _ in node.copy_graphs():
                yield Layer(join(prefix, node.segment(number)), needed)
        elif node.mode is Mode.CALL and node.op is None and repeats(node):
            yield from _layers(node.copies[0].graph, join(prefix, node.at), None if needed else set())
        else:
            yield Layer(join(prefix, node.at), needed)


def repeats(node: Node) -> bool:
    """Return whether a line repeats another somewhere below it."""
    inner = [below for copies in node.copies for below in copies.graph.nodes.values()]
    return any(below.mode is Mode.REPEAT or repeats(below) for below in inner)


Grads = Mapping[str, Sequence[Tensor | None]]
"""By the name of a prediction, the gradient of each parameter; None where its loss does not reach it."""


@dataclass
class _Sums:
    """Of one layer: the places of its parameters, and norms and cosines batch by batch."""

    layer: Layer
    chosen: list[int] = field(default_factory=list)
    parameters: int = 0
    norms: dict[str, list[float]] = field(default_factory=dict)
    cosines: dict[str, list[float]] = field(default_factory=dict)

    def add(self, grads: Grads, reference: str) -> None:
        """Add one batch."""
        norms = {name: math.sqrt(_dot(found, found, self.chosen)) for name, found in grads.items()}
        for name, found in grads.items():
            self.norms.setdefault(name, []).append(norms[name])
            if name != reference and norms[name] and norms[reference]:
                cosine = _dot(found, grads[reference], self.chosen) / (norms[name] * norms[reference])
                self.cosines.setdefault(name, []).append(cosine)

    def result(self) -> Gradients:
        """Return means over batches."""
        return Gradients(
            path=self.layer.path,
            trunk=self.layer.trunk,
            parameters=self.parameters,
            norms={name: over_batches(values) for name, values in self.norms.items()},
            cosines={name: over_batches(values) for name, values in self.cosines.items()},
        )


def _dot(a: Sequence[Tensor | None], b: Sequence[Tensor | None], chosen: Sequence[int]) -> float:
    pairs = [(a[i], b[i]) for i in chosen]
    return sum(float((x.double() * y.double()).sum()) for x, y in pairs if x is not None and y is not None)


def gradients(graph: Model, module: Any, heads: Sequence[Head], batches: Iterable[Batch]) -> tuple[Gradients, ...]:
    """Return norms and cosines of the gradients of each unweighted loss of an output, averaged over ``batches``.

    The first head is the reference of the cosines. Layers without trained parameters are left out. Neither the
    weights' ``grad`` nor the counts of routers change.
    """
    trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    sums = _by_layer(graph, heads[0], trained)
    weights, was_training = [weight for _, weight in trained], module.training
    names = loss_names(graph, heads[0])
    module.eval()
    try:
        for batch in batches:
            found = _grads(module, weights, names, batch)
            for one in sums:
                one.add(found, heads[0].name)
    finally:
        module.train(was_training)
    return tuple(one.result() for one in sums)


def loss_names(graph: Model, reference: Head) -> list[str]:
    """Return the names of the losses of outputs, that of the reference first; those of routers are left out."""
    found = [name for loss in graph.losses if not loss.kind.of_routers for name in loss.names]
    return [reference.name, *(name for name in found if name != reference.name)]


def _by_layer(graph: Model, reference: Head, trained: Sequence[tuple[str, nn.Parameter]]) -> list[_Sums]:
    """Return the layers that own trained parameters. Raise DsvError if one belongs to none."""
    sums = {layer.path: _Sums(layer) for layer in layers(graph, reference)}
    for place, (name, weight) in enumerate(trained):
        owners = [path for path in sums if not path or name.startswith(f"{path}.")]
        if not owners:
            raise DsvError(f"`{name}` belongs to no line of {graph.name}")
        owner = sums[max(owners, key=len)]
        owner.chosen.append(place)
        owner.parameters += weight.numel()
    return [one for one in sums.values() if one.chosen]


def _grads(module: Any, weights: list[nn.Parameter], names: Sequence[str], batch: Batch) -> Grads:
    """Return the gradients of each loss as the model itself computes it."""
    losses = compute_losses(module, batch)
    found = {}
    for name in names:
        loss = losses[name]
        reached = loss.requires_grad
        found[name] = (
            torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            if reached
            else (None,) * len(weights)
        )
    return found


def compute_losses(module: Any, batch: Batch) -> dict[str, Tensor]:
    """Return the losses of a model for a batch, unweighted and by name, with ``loss``, their weighted sum."""
    more: dict[str, Any] = {} if batch.documents is None else {"documents": batch.documents}
    losses: dict[str, Tensor] = module(batch.inputs, targets=batch.targets, **more)
    return losses
