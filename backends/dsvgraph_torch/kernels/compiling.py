"""Layers through torch.compile, once for all copies of a layer.

What a compiled layer reads must look the same for every copy: each call gets a copy of the context with balances of its
own, whose keys are the numbers of the routers within the layer, and the tables of rotary positions are there before the
first layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

from dsvgraph.graph import Model, walk
from dsvgraph.ops.sequence import Rope
from dsvgraph_torch.kernels.gpu.positions import tables
from dsvgraph_torch.kernels.gpu.routing import Router

Rotation = tuple[int, float, dict[str, Any] | None]
"""The width, the base and the scaling of a rotary embedding."""

VERSIONS = 64
"""How many versions of one class torch.compile may keep: classes hold different blocks, and rows differ in length."""


def compile_layers(graph: Model, layers: list[nn.Module]) -> None:
    """Let ``layers`` run through torch.compile while they train.

    How many rows an expert gets is known only while it runs, so experts stay outside unless their product takes that
    as a tensor: on a GPU, in bfloat16.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VERSIONS)
    rotations = tuple(rotations_of(graph))
    compiled: dict[type, Callable[..., Any]] = {}
    for layer in layers:
        if layer.__class__ not in compiled:
            compiled[layer.__class__] = torch.compile(layer.__class__.forward, dynamic=False)
        exclude_experts(layer)
        layer.forward = CompiledLayer(layer, compiled[layer.__class__], rotations)


def rotations_of(graph: Model) -> Iterator[Rotation]:
    """Yield the rotary embeddings of a model, each once."""
    found: list[Rotation] = []
    for visit in walk(graph):
        op = visit.node.op
        if isinstance(op, Rope):
            width = visit.node.input_types["x"].shape[-1]
            if isinstance(width, int) and (one := (width, op.theta, op.scaled)) not in found:
                found.append(one)
    yield from found


def exclude_experts(layer: nn.Module) -> None:
    """Let the experts of ``layer`` run uncompiled, unless the functions of a GPU are in use."""
    if any(isinstance(part, Router) for part in layer.modules()):
        return
    for part in layer.modules():
        if any(base.__name__ == "Each" for base in type(part).__mro__):
            part.forward = torch.compiler.disable(part.forward)


class CompiledLayer:
    """The forward of ``layer``: ``compiled`` while it trains, the class's own otherwise."""

    def __init__(self, layer: nn.Module, compiled: Callable[..., Any], rotations: tuple[Rotation, ...]) -> None:
        self.layer, self.compiled, self.rotations = layer, compiled, rotations
        self.routers = [part for part in layer.modules() if isinstance(part, Router)]

    def __call__(self, *inputs: Any) -> Any:
        if not (self.layer.training and torch.is_grad_enabled()):
            return type(self.layer).forward(self.layer, *inputs)
        *values, ctx = (value.contiguous() if isinstance(value, torch.Tensor) else value for value in inputs)
        if not hasattr(ctx, "balance"):
            return self.compiled(self.layer, *values, ctx)
        if not ctx.memo:
            tables(ctx, values[0], self.rotations)
        own = copy.copy(ctx)
        own.balance = {}
        with self.alike():
            found = self.compiled(self.layer, *values, own)
        for key, value in own.balance.items():
            router = self.routers[key] if isinstance(key, int) else key
            ctx.balance[router] = ctx.balance.get(router, 0.0) + value
        return found

    @contextmanager
    def alike(self) -> Iterator[None]:
        """Let the routers look like those of every other copy of the layer."""
        for place, router in enumerate(self.routers):
            router.place = place
            if isinstance(router.fill, int):
                router.fill_count = _on_device(router.fill, router.weight.device)
        try:
            yield
        finally:
            for router in self.routers:
                router.place = router.fill_count = None


@cache
def _on_device(number: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(number, device=device)
