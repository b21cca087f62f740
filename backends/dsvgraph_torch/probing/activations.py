"""Activations of traced passes: the residual stream, attention, and the load of experts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dsvgraph.backends.probes import AttentionNorms, RouterLoad, StateNorms
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.probing.attention import Attentions
from dsvgraph_torch.probing.heads import run
from dsvgraph_torch.probing.routers import Routers
from dsvgraph_torch.probing.states import States


@torch.inference_mode()
def trace(
    graph: Model, module: nn.Module, batches: Iterable[Batch]
) -> tuple[tuple[StateNorms, ...], tuple[RouterLoad, ...], tuple[AttentionNorms, ...], list[str]]:
    """Return norms of the residual stream, loads of routers and norms of attention over ``batches``, and notes."""
    states, routers, attentions = States(graph, module), Routers(graph, module), Attentions(graph, module)
    for batch in batches:
        with states.watched(), routers.watched(), attentions.watched(batch.documents is not None):
            run(module, batch)
    measured = attentions.found()
    odd = attentions.runs and not measured
    notes = ["attention is not measured: this model does not run its lines of attention once each"] if odd else []
    return states.found(), routers.found(), measured, notes
