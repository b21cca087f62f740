"""Models that take training steps in turns: the compiled one, as `compile --train` steps it, and another library's."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dsvgraph.backends import contracts, peer
from dsvgraph.backends.benchmark import BenchmarkOptions
from dsvgraph.graph import Model
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.measuring.machine import synchronise
from dsvgraph_torch.optimizers.masters import with_precision
from dsvgraph_torch.optimizers.optimizer import optimizer_for
from dsvgraph_torch.training.options import TrainOptions
from dsvgraph_torch.training.predictions import shares
from dsvgraph_torch.training.setup import compiling, set_up
from dsvgraph_torch.training.step import clipping, train_step

LR = 1e-4
"""The learning rate of measured steps: what they learn does not matter, as long as no loss diverges."""

CLIP = 1.0
"""The largest norm of a gradient, which `compile --train` has by default; all models clip theirs."""


@dataclass
class Contender:
    """A model that is ready to step. ``step`` returns the loss, ``build`` are the seconds until it was there."""

    name: str
    ours: bool
    module: Any
    optimizer: Any
    step: Callable[[], float]
    build: float

    def timed(self, device: torch.device) -> tuple[float, float]:
        """Take a step; return its seconds and its loss."""
        synchronise(device)
        started = time.perf_counter()
        loss = self.step()
        synchronise(device)
        return time.perf_counter() - started, loss


def training_options(options: BenchmarkOptions) -> TrainOptions:
    """Return the options of `compile --train` with which our model is set up."""
    return TrainOptions.given(
        batch=options.batch, seq=options.seq, device=options.device, precision=options.precision, lr=LR, clip=CLIP,
        compile=options.compile, fit_memory=options.fit_memory, seed=options.seed, emulate=True,
    )  # fmt: skip


def vocabulary(model: Model) -> int:
    """Return how many tokens there are: as many as the narrowest output that a token is predicted by has logits."""
    sizes = [model.type(model.outputs[str(one.output)]).shape[-1] for one in model.losses if one.kind.scores_tokens]
    return min(size for size in sizes if isinstance(size, int))


def rows(model: Model, options: BenchmarkOptions, length: int) -> torch.Tensor:
    """Return random rows of tokens, [B, length], the same for a seed."""
    generator = torch.Generator().manual_seed(options.seed)
    return torch.randint(0, vocabulary(model), (options.batch, length), generator=generator)


def ours(model: Model, options: BenchmarkOptions, device: torch.device) -> Contender:
    """Return the compiled model, set up and stepped by the functions of `compile --train`."""
    given = training_options(options)
    synchronise(device)
    started = time.perf_counter()
    state = set_up(model, given, device, None)
    weigh_all(state.model)
    synchronise(device)
    built = time.perf_counter() - started
    batch = Batch.of_rows(rows(model, options, options.seq + 1))
    parts = shares(model, [batch])

    def step() -> float:
        with compiling(given):
            return train_step(state.model, state.optimizer, [batch], LR, CLIP, device, shares=parts).loss

    return Contender("dsvgraph", True, state.model, state.optimizer, step, built)


def weigh_all(module: Any) -> None:
    """Let a step of ``module`` compute every loss: its FLOPs are counted with those that weigh nothing now."""
    if not hasattr(module, "loss_weights"):
        return
    weights = module.loss_weights

    def above_zero() -> dict[str, Any]:
        return {name: [w or 1.0 for w in of] if isinstance(of, list) else of or 1.0 for name, of in weights().items()}

    module.loss_weights = above_zero


def cast(module: nn.Module, dtype: str) -> None:
    """Put the parameters of ``module`` into ``dtype``; buffers stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))


def theirs(model: Model, options: BenchmarkOptions, device: torch.device) -> Iterator[Contender]:
    """Yield the model of the other library, in each way that it has, with the numbers and the optimizer of ours."""
    if options.against is None:
        return
    other = peer(options.against)
    for way in other.ways(model, device.type, options.compile):
        yield _built(other, way, model, options, device)


def _built(other: contracts.Peer, way: str, model: Model, options: BenchmarkOptions, device: torch.device) -> Contender:
    synchronise(device)
    started = time.perf_counter()
    module = other.build(model, way, device, options.seed, options.seq + options.decode + 1).train()
    optimizer = optimizer_for(module, training_options(options), masters=with_precision(module, options.precision))
    synchronise(device)
    built = time.perf_counter() - started
    ids = rows(model, options, options.seq).to(device)

    def step() -> float:
        loss = other.loss(module, ids)
        loss.backward()
        optimizer.step(clipping(optimizer.gradient_norm(), CLIP))
        return float(loss.detach())

    return Contender(f"{options.against}, {way}", False, module, optimizer, step, built)


def released(contenders: list[Contender], device: torch.device) -> None:
    """Give back what ``contenders`` hold, and what was compiled for them."""
    contenders.clear()
    torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
