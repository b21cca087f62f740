"""The weights that are trained, which of them Muon moves, and their settings: weight decay, learning rates by path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model, Ref, join
from dsvgraph.ops.base import Pointwise
from dsvgraph.passes.graph.instances import aliases
from dsvgraph.patterns import regex
from dsvgraph_torch.optimizers.masters import whole
from dsvgraph_torch.training.options import TrainOptions

SCALE = "lr_scale"
"""The key of a group of parameters for the factor by which its learning rate differs."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A trained parameter: its name, and the weights in it by path, one or the stacked ones of experts."""

    name: str
    parameter: nn.Parameter
    parts: Mapping[str, Tensor]


def trained_weights(module: nn.Module) -> list[Weight]:
    """Return the trained parameters with the weights that they hold."""
    parts: dict[nn.Parameter, dict[str, Tensor]] = {}
    for path, weight in module.state_dict(keep_vars=True).items():
        parts.setdefault(whole(weight), {})[path] = weight
    return [Weight(name, p, parts[p]) for name, p in module.named_parameters() if p.requires_grad]


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether it is a matrix, or a stack of them (experts); norms and biases are not."""
    stacked_vectors = ("bias", "norm.weight")
    return parameter.dim() >= 2 and not name.endswith(stacked_vectors)


# -- settings -----------------------------------------------------------------------------------------


def group(weight: Weight, factor: float, options: TrainOptions) -> dict[str, Any]:
    """Return the settings of a parameter: weight decay on matrices only."""
    decay = options.weight_decay if is_matrix(weight.name, weight.parameter) else 0.0
    return {"weight_decay": decay, SCALE: factor}


def merged(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``groups`` with those of equal settings as one."""
    found: dict[object, dict[str, Any]] = {}
    for group in groups:
        key = tuple(sorted((name, value) for name, value in group.items() if name != "params"))
        known = found.setdefault(key, {**group, "params": []})
        known["params"] += group["params"]
    return list(found.values())


def lr_factors(trained: list[Weight], rules: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter, by name: what the last rule that fits says.

    Raise DsvError if a rule fits nothing that is trained, or tells experts of one parameter apart.
    """
    compiled = [(pattern, re.compile(regex(pattern)), factor) for pattern, factor in rules]
    used: set[str] = set()
    found: dict[str, float] = {}
    for weight in trained:
        said = {}
        for path in weight.parts:
            fits = [(pattern, factor) for pattern, rule, factor in compiled if rule.fullmatch(path)]
            used |= {pattern for pattern, _ in fits}
            said[path] = fits[-1][1] if fits else 1.0
        if len(set(said.values())) > 1:
            words = (
                f"{weight.name} holds all experts as one parameter, and the patterns tell {', '.join(list(said)[:2])}"
            )
            raise DsvError(f"--lr-for: {words} apart", hint="let a pattern fit all experts, or none")
        found[weight.name] = next(iter(said.values()))
    for pattern, _, _ in compiled:
        if pattern not in used:
            hint = "`dsvgraph cost SPEC --by path` lists the paths"
            raise DsvError(f"--lr-for: `{pattern}` fits no weight that is trained", hint=hint)
    return found


# -- which weights Muon moves -------------------------------------------------------------------------


def for_muon(weight: Weight, apart: frozenset[str]) -> bool:
    """Return whether Muon moves it: matrices, but those of embeddings and output layers."""
    return not apart & weight.parts.keys() and all(
        part.dim() == 2 and is_matrix(path, part) for path, part in weight.parts.items()
    )


def vocabulary_weights(model: Model) -> frozenset[str]:
    """Return the paths of embeddings, and of what makes the outputs that a loss scores."""
    second = aliases(model)
    found = {join(visit, name) for visit, name in _embeddings(model, "")}
    for name in {str(loss.output) for loss in model.losses if loss.output is not None}:
        if name in model.outputs:
            found |= set(_makers(model, "", model.outputs[name]))
    return frozenset(second.get(path, path) for path in found)


def _embeddings(graph: Graph, prefix: str) -> Iterator[tuple[str, str]]:
    for node in graph.nodes.values():
        if node.callee == "embedding":
            yield from ((join(prefix, node.at), name) for name in (*node.weights, *node.tied))
        for number, copy in node.copy_graphs():
            yield from _embeddings(copy, join(prefix, node.segment(number)))


def _makers(graph: Graph, prefix: str, ref: Ref) -> Iterator[str]:
    """Yield the weights of the line behind ``ref``, out of blocks and through ops without weights."""
    node = graph.nodes.get(ref.node)
    if node is None:
        return
    for name in (*node.weights, *node.tied):
        yield join(prefix, node.at, name)
    if isinstance(node.op, Pointwise):
        for source in node.inputs.values():
            yield from _makers(graph, prefix, source)
    for number, copy in node.copy_graphs():
        if ref.port in copy.outputs:
            yield from _makers(copy, join(prefix, node.segment(number)), copy.outputs[ref.port])
