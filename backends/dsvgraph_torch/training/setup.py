"""What a run is set up with: its module, and what a step of it costs."""

from __future__ import annotations

from typing import Any

import torch

import dsvgraph
from dsvgraph.backends import weight_reader
from dsvgraph.graph import Model
from dsvgraph_torch.training.options import TrainOptions


def build(graph: Model, options: TrainOptions, device: torch.device) -> Any:
    """Return the module on its device, with the weights of a folder or those of the seed."""
    from dsvgraph_torch import compile, empty

    kernels = "fast" if device.type == "cpu" else "plain"
    if options.weights:
        module = empty(graph, device, kernels=kernels)
        weight_reader().fill(module, graph, options.weights, drop_mtp=options.drop_mtp)
        return module
    return compile(graph, seed=options.seed, kernels=kernels).to(device)


def step_flops(graph: Model, options: TrainOptions) -> int:
    """Return the FLOPs of one optimizer step, forward and backward, by the count of the graph."""
    cost = dsvgraph.cost(graph, options.batch, options.seq, formulas=False)
    return round(cost.flops.train) * options.accumulate
