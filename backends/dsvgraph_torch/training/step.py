"""One optimizer step, and one evaluation.

Shape legend: B rows, T tokens of a row, E experts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dsvgraph.errors import DsvError
from dsvgraph_torch.data.batch import Batch
from dsvgraph_torch.module import after_step, expert_load
from dsvgraph_torch.training.optim import Optimizer, set_rate

Shares = list[dict[str, float]] | None
"""For each batch of a step, factors of its losses by name."""


class Diverged(DsvError):
    """A loss or a gradient is no number any more."""


@dataclass(frozen=True)
class StepMetrics:
    """Numbers of one optimizer step; losses in nats, by name and unweighted but for ``loss``."""

    loss: float
    losses: dict[str, float]
    lr: float
    grad_norm: float
    tokens_per_second: float
    balance: float | None
    load: dict[str, list[int]] = field(repr=False)

    def record(self, *, load: bool) -> dict[str, Any]:
        """Return the metrics for one JSON line; the load of every expert only when asked for."""
        return {k: v for k, v in asdict(self).items() if load or k != "load"}


@dataclass(frozen=True)
class Precision:
    """Where and how numbers are computed."""

    device: torch.device
    dtype: torch.dtype

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return losses of a batch, by name, each a scalar."""
        at = batch.to(self.device)
        packed = {} if at.documents is None else {"documents": at.documents}
        reduced = self.dtype != torch.float32
        with schedule_errors(), torch.autocast(self.device.type, self.dtype, enabled=reduced):
            found: dict[str, Tensor] = model(at.inputs, at.targets, **packed)
        return found


@contextmanager
def schedule_errors() -> Iterator[None]:
    """Raise DsvError if a formula of the losses has no value, which the model raises as an ArithmeticError."""
    try:
        yield
    except ArithmeticError as error:
        if type(error) is not ArithmeticError:
            raise
        raise DsvError(str(error), hint="a schedule needs a value for every number of tokens") from None


def train_step(
    model: Any,
    optimizer: Optimizer,
    batches: list[Batch],
    rate: float,
    clip: float,
    precision: Precision,
    when: str = "",
    shares: Shares = None,
) -> StepMetrics:
    """Accumulate the gradients of ``batches`` and takes one step, routers included.

    ``clip`` is the largest norm of the gradient, 0 for none; ``shares`` is as for ``backward``.
    Raise DsvError, which says ``when``, where a loss or the gradient is no number; nothing has been changed then.
    """
    started = time.perf_counter()
    model.train()
    values = backward(model, batches, precision, shares)
    trained = [p for p in model.parameters() if p.requires_grad]
    values["grad_norm"] = nn.utils.clip_grad_norm_(trained, clip or math.inf)
    numbers = finite(values, when)
    load = update(model, optimizer, rate)
    tokens = sum(batch.tokens for batch in batches)
    return StepMetrics(
        loss=numbers.pop("loss"),
        grad_norm=numbers.pop("grad_norm"),
        losses=numbers,
        lr=rate,
        tokens_per_second=tokens / (time.perf_counter() - started),
        balance=balance(load),
        load=load,
    )


def update(model: nn.Module, optimizer: Optimizer, rate: float) -> dict[str, list[int]]:
    """Move weights by their gradients and routers by their load; returns that load."""
    set_rate(optimizer, rate)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    load = {path: [int(n) for n in load_E.tolist()] for path, load_E in expert_load(model).items()}
    with schedule_errors():
        after_step(model)
    return load


def backward(model: nn.Module, batches: list[Batch], precision: Precision, shares: Shares = None) -> dict[str, Tensor]:
    """Add the gradient of the loss over ``batches``; returns the losses over them.

    That is the mean over the batches. ``shares`` has for each batch the factor by which a loss counts there more than
    an equal part, where batches have unequally many targets.
    """
    means: dict[str, Tensor] = {}
    for batch, share in zip(batches, shares or [{}] * len(batches), strict=True):
        losses = precision.losses(model, batch)
        if not losses["loss"].requires_grad:
            raise DsvError("there is nothing to train: no loss depends on a parameter that is trained")
        losses = shared(losses, share)
        (losses["loss"] / len(batches)).backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach().float() / len(batches)
    return means


def shared(losses: dict[str, Tensor], share: dict[str, float]) -> dict[str, Tensor]:
    """Return ``losses`` with those in ``share`` times their factor, in the weighted sum `loss` too."""
    trained = [name for name in share if losses[name].requires_grad]
    if not trained:
        return losses
    total, values = losses["loss"], [losses[name] for name in trained]
    weights = torch.autograd.grad(total, values, retain_graph=True, allow_unused=True)  # the sum is linear in them
    for name, value, weight in zip(trained, values, weights, strict=True):
        if weight is not None:
            total = total + weight * (share[name] - 1) * value
    return {**losses, **{name: losses[name] * share[name] for name in share}, "loss": total}


def finite(values: dict[str, Tensor], when: str) -> dict[str, float]:
    """Return the values as numbers, in one transfer. Raise Diverged if one is infinite or NaN."""
    stacked = torch.stack([value.detach().float() for value in values.values()])
    numbers = dict(zip(values, stacked.tolist(), strict=True))
    wrong = [f"{name} is {number}" for name, number in numbers.items() if not math.isfinite(number)]
    if wrong:
        hint = "a lower --lr may help"
        raise Diverged(f"training diverged{when and ' '}{when}: {', '.join(wrong)}", hint=hint)
    return numbers


def balance(load: dict[str, list[int]]) -> float | None:
    """Return how much more the busiest expert of a router got than the mean, on average; 1 is even."""
    ratios = [max(counts) * len(counts) / sum(counts) for counts in load.values() if sum(counts)]
    return sum(ratios) / len(ratios) if ratios else None


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], precision: Precision, when: str = "") -> dict[str, float]:
    """Return mean losses over ``batches``, by name, each batch by the targets that it counts, without a trace.

    Raise DsvError, which says ``when``, where one is infinite or NaN.
    """
    model.eval()
    sums: dict[str, Tensor] = {}
    counted = 0
    for batch in batches:
        counted += batch.counted
        for name, value in precision.losses(model, batch).items():
            sums[name] = sums.get(name, 0) + value.float() * batch.counted
    return finite({name: value / max(1, counted) for name, value in sums.items()}, when)
