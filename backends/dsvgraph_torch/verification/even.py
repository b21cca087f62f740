"""Tokens sent evenly to experts that differ: the cost counts the average, torch what each token's experts take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import lcm
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from dsvgraph.dims import evaluate
from dsvgraph.graph import Mode, Model, walk


def length(model: Model, least: int) -> int:
    """The least number of tokens of a row, at least ``least``, that can be sent evenly to experts that differ."""
    counts = [v.node.count for v in walk(model) if v.node.mode is Mode.EACH and len(v.node.copies) > 1]
    whole = lcm(*(int(evaluate(count, {})) for count in counts))
    return -(-least // whole) * whole


@contextmanager
def evenly(model: Model, module: nn.Module) -> Iterator[None]:
    """Within it every expert gets as many tokens as another, if experts of ``model`` differ."""
    differ = any(v.node.mode is Mode.EACH and len(v.node.copies) > 1 for v in walk(model))
    routers = [part for part in module.modules() if type(part).__name__ == "Router"] if differ else []
    hooks = [router.register_forward_hook(_spread) for router in routers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _spread(router: Any, _: Any, chosen: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Every token's experts in turns instead of those that the router chose."""
    index_BTK, score_BTK = chosen
    with _disable_current_modes():  # nobody counts this
        turns = torch.arange(index_BTK.numel(), device=index_BTK.device) % len(router.weight)
    return turns.view(index_BTK.shape), score_BTK
