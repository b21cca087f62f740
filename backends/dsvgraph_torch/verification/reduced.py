"""Models and inputs that can be run and counted: smaller sizes, and tokens sent evenly to experts that differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import lcm
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from dsvgraph.build import build
from dsvgraph.dims import evaluate, names
from dsvgraph.errors import DsvError
from dsvgraph.graph import Mode, Model, walk
from dsvgraph.passes.count.generic import generic_model, integer_config, repeat_names
from dsvgraph.spec import with_settings

MOST = 128  # times smaller
LEAST = 8  # what a size is not made smaller than


def reduced_model(model: Model) -> tuple[Model, dict[str, int]]:
    """``model`` with smaller numbers in its config, and these numbers.

    Sizes are divided by powers of two. What layers are counted by stays, so that the reduced model has the
    same lines; where a size makes the spec wrong, the sizes that the error names are divided by less.
    """
    assert model.spec is not None
    named = generic_model(model)
    over = {n: _divisor(v) for n, v in integer_config(model).items() if named is None or n in _sizes(named)}
    over = {n: d for n, d in over.items() if d > 1}
    while over:
        changed = {n: model.config[n] // d for n, d in over.items()}
        try:
            found = build(with_settings(model.spec, changed))
        except DsvError as error:
            over = _less(over, error)
            continue
        if _lines(found) == _lines(model):
            return found, changed
        over = _less(over)
    return model, {}


def _sizes(named: Model) -> set[str]:
    """Return the names that weights are large by, but for those that layers are counted by."""
    shapes = [size for visit in walk(named) for w in visit.node.weights.values() for size in w.shape]
    return set[str]().union(*map(names, shapes)) - repeat_names(named)


def _divisor(value: int) -> int:
    """Return the largest power of two that divides a size and leaves something of it."""
    divisor = 1
    while divisor < MOST and value % (2 * divisor) == 0 and value // (2 * divisor) >= LEAST:
        divisor *= 2
    return divisor


def _less(over: dict[str, int], error: DsvError | None = None) -> dict[str, int]:
    """Return the divisors with those halved whose names the error or its line depends on, or else all."""
    named = {name for d in error.diagnostics for name in d.names | d.reads} if error else set()
    blamed = over.keys() & named or over.keys()
    halved = {n: d // 2 if n in blamed else d for n, d in over.items()}
    return {n: d for n, d in halved.items() if d > 1}


def _lines(model: Model) -> list[tuple[str, str, int]]:
    """Return what a model is made of, without its sizes."""
    return [(v.node.name, v.node.callee, len(v.node.copies)) for v in walk(model)]


# -- even routing ---------------------------------------------------------------------------------


def even_length(model: Model, least: int) -> int:
    """Return the least length of a row, at least ``least``, that can be sent evenly to experts that differ."""
    counts = [v.node.count for v in walk(model) if v.node.mode is Mode.EACH and len(v.node.copies) > 1]
    whole = lcm(*(int(evaluate(count, {})) for count in counts))
    return -(-least // whole) * whole


@contextmanager
def even_routing(model: Model, module: nn.Module) -> Iterator[None]:
    """Within this context every expert gets as many tokens as another, if experts of ``model`` differ.

    The cost counts the average over experts, torch what the experts of each token take.
    """
    differ = any(v.node.mode is Mode.EACH and len(v.node.copies) > 1 for v in walk(model))
    routers = [part for part in module.modules() if type(part).__name__ == "Router"] if differ else []
    hooks = [router.register_forward_hook(_spread) for router in routers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _spread(router: Any, _: Any, chosen: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return experts in rotation in place of those that the router chose."""
    index_BTK, score_BTK = chosen
    with _disable_current_modes():  # nobody counts this
        rotation = torch.arange(index_BTK.numel(), device=index_BTK.device) % len(router.weight)
    return rotation.view(index_BTK.shape), score_BTK
