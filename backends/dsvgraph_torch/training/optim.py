"""Optimizers: AdamW as DeepSeek-V3 uses it, or Muon for matrices with AdamW for the rest; learning rates by path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from dsvgraph.backends.training import OptimizerKind
from dsvgraph.errors import DsvError
from dsvgraph.graph import Graph, Model, Ref, join
from dsvgraph.names import listed
from dsvgraph.ops.base import Pointwise
from dsvgraph.passes.graph.instances import aliases
from dsvgraph.patterns import regex
from dsvgraph_torch.training.options import TrainOptions

BETAS = (0.9, 0.95)
SCALE = "lr_scale"
"""The key of a group of parameters for the factor by which its learning rate differs."""


@dataclass(frozen=True)
class Weight:
    """A trained parameter: its name, and the weights in it by path, one or the stacked ones of experts."""

    name: str
    parameter: nn.Parameter
    parts: Mapping[str, Tensor]


class MuonAndAdamW:
    """Muon over the matrices ``muon``, one by one where they are stacked, and AdamW over the groups ``others``.

    It has what a training step uses of an optimizer. Each matrix of a stack is a view of its parameter and gets
    its part of the gradient before each step.
    """

    def __init__(self, muon: list[tuple[Weight, dict[str, Any]]], others: list[dict[str, Any]], lr: float) -> None:
        self.views = [(path, weight.parameter, view(part)) for weight, _ in muon for path, part in weight.parts.items()]
        settings = [group for weight, group in muon for _ in weight.parts]
        groups = [{"params": [part], **group} for (*_, part), group in zip(self.views, settings, strict=True)]
        # one learning rate for both: the update has the size of AdamW's (arXiv 2502.16982)
        self.muon = torch.optim.Muon(merged(groups), lr=lr, adjust_lr_fn="match_rms_adamw")
        self.parts: tuple[torch.optim.Optimizer, ...] = (self.muon,)
        self.parts += (adamw(others, lr),) if others else ()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both optimizers."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """Take a step of both."""
        for _, whole, part in self.views:
            part.grad = None if whole.grad is None else view(part, whole.grad.contiguous(), whole)
        for optimizer in self.parts:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for _, whole, part in self.views:
            whole.grad = part.grad = None
        for optimizer in self.parts:
            optimizer.zero_grad(set_to_none)


Optimizer: TypeAlias = "torch.optim.Optimizer | MuonAndAdamW"


def view(part: Tensor, whole: Tensor | None = None, like: Tensor | None = None) -> Tensor:
    """Return ``part`` without its history; with ``whole``, the same part of that as ``part`` is of ``like``."""
    if whole is None or like is None:
        return part.detach()
    return whole.as_strided(part.shape, part.stride(), part.storage_offset() - like.storage_offset())


def merged(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``groups`` with those of equal settings as one."""
    found: dict[object, dict[str, Any]] = {}
    for group in groups:
        key = tuple(sorted((name, value) for name, value in group.items() if name != "params"))
        known = found.setdefault(key, {**group, "params": []})
        known["params"] += group["params"]
    return list(found.values())


def adamw(groups: list[dict[str, Any]], lr: float) -> torch.optim.AdamW:
    """Return AdamW over ``groups``."""
    devices = {p.device.type for group in groups for p in group["params"]}
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, fused=devices <= {"cpu", "cuda"})


def optimizer_for(module: nn.Module, options: TrainOptions, model: Model | None = None) -> Optimizer:
    """Return the optimizer over the trained parameters, with weight decay on matrices only.

    Muon leaves the embeddings and the output layers of ``model`` to AdamW. Raise DsvError if a pattern of `--lr-for`
    fits no weight, or some experts of a stack and not others.
    """
    trained = trained_weights(module)
    factors = lr_factors(trained, options.lr_for)
    apart = vocabulary_weights(model) if model else frozenset()
    by_muon = [w for w in trained if options.optimizer is OptimizerKind.MUON and for_muon(w, apart)]
    groups = {w.name: group(w, factors[w.name], options) for w in trained}
    names = {w.name for w in by_muon}
    others = merged({"params": [w.parameter], **groups[w.name]} for w in trained if w.name not in names)
    if by_muon:
        return MuonAndAdamW([(w, groups[w.name]) for w in by_muon], others, options.lr)
    return adamw(others, options.lr)


def group(weight: Weight, factor: float, options: TrainOptions) -> dict[str, Any]:
    """Return the settings of a parameter."""
    decay = options.weight_decay if is_matrix(weight.name, weight.parameter) else 0.0
    return {"weight_decay": decay, SCALE: factor}


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Let every group learn at ``rate``, times its own factor."""
    for settings in optimizer.param_groups:
        settings["lr"] = rate * settings.get(SCALE, 1.0)


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether it is a matrix, or a stack of them (experts); norms and biases are not."""
    stacked_vectors = ("bias", "norm.weight")
    return parameter.dim() >= 2 and not name.endswith(stacked_vectors)


def trained_weights(module: nn.Module) -> list[Weight]:
    """Return the trained parameters with the weights that they hold."""
    parts: dict[int, dict[str, Tensor]] = {}
    for path, weight in module.state_dict(keep_vars=True).items():
        parts.setdefault(id(weight if weight._base is None else weight._base), {})[path] = weight
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    return [Weight(name, p, parts[id(p)]) for name, p in trained]


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


def of_optimizer(optimizer: Optimizer, module: nn.Module) -> Iterator[str]:
    """Yield a line about which optimizer moves what, where there are two."""
    if not isinstance(optimizer, MuonAndAdamW):
        return
    moved = {id(whole) for _, whole, _ in optimizer.views}
    rest = [w for w in trained_weights(module) if id(w.parameter) not in moved]
    matrices = [w.name for w in rest if is_matrix(w.name, w.parameter)]
    others = [*([listed(matrices, 6)] if matrices else []), f"{len(rest) - len(matrices)} vectors"]
    yield f"--optimizer muon: {len(optimizer.views)} matrices by Muon; by AdamW {' and '.join(others)}"


# -- learning rates by path ---------------------------------------------------------------------------


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
