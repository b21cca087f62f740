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
from dsvgraph_torch.optimizers.optimizer import Optimizer, set_rate

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


@contextmanager
def schedule_errors() -> Iterator[None]:
    """Raise DsvError if a formula of the losses has no value, which the model raises as an ArithmeticError."""
    try:
        yield
    except ArithmeticError as error:
        if type(error) is not ArithmeticError:
            raise
        raise DsvError(str(error), hint="a schedule needs a value for every number of tokens") from None


class TakenStep:
    """A step that the device may still compute, and its numbers, which are copied from there without a wait.

    ``computed`` are the names of the losses of each batch: those that weigh nothing are left out.
    """

    def __init__(self, device: torch.device, rate: float, tokens: int, when: str) -> None:
        self.rate, self.tokens, self.when = rate, tokens, when
        self.clock = Clock(device)
        self.values: dict[str, Tensor] = {}
        self.computed: list[frozenset[str]] = []
        self.loads: dict[str, Tensor] = {}

    def finite(self) -> Tensor:
        """Return whether every value so far is a number, as a tensor."""
        return torch.stack([value.isfinite() for value in self.values.values()]).all()

    def read(self) -> StepMetrics:
        """Wait for the step, and return its metrics. Raise Diverged if a loss or the gradient is no number."""
        seconds = self.clock.seconds()
        numbers = finite(self.values, self.when)
        load = {path: [int(n) for n in load_E.tolist()] for path, load_E in self.loads.items()}
        return StepMetrics(
            loss=numbers.pop("loss"),
            grad_norm=numbers.pop("grad_norm"),
            losses=numbers,
            lr=self.rate,
            tokens_per_second=self.tokens / seconds,
            balance=balance(load),
            load=load,
        )

    def end(self) -> None:
        """Copy what was computed to the host, and stop the clock."""
        self.values = on_host(self.values)
        self.loads = on_host(self.loads)
        self.clock.stop()


def on_host(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 copies of ``values`` in memory of the host, which are whole once the device comes so far."""
    if not values:
        return {}
    flat = torch.cat([value.detach().float().reshape(-1) for value in values.values()])
    if flat.device.type == "cuda":
        flat = torch.empty(flat.shape, pin_memory=True).copy_(flat, non_blocking=True)
    parts = flat.split([value.numel() for value in values.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}


class Clock:
    """Seconds of a step: of the device's work where it runs behind the host."""

    def __init__(self, device: torch.device) -> None:
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
        self.times = [time.perf_counter()]
        if self.events:
            self.events[0].record()

    def stop(self) -> None:
        """End it where the device comes so far."""
        self.times.append(time.perf_counter())
        if self.events:
            self.events[1].record()

    def seconds(self) -> float:
        """Wait for the end, and return the seconds between."""
        if not self.events:
            return self.times[1] - self.times[0]
        self.events[1].synchronize()
        return float(self.events[0].elapsed_time(self.events[1])) / 1e3


def train_step(
    model: Any,
    optimizer: Optimizer,
    batches: list[Batch],
    rate: float,
    clip: float,
    device: torch.device,
    when: str = "",
    shares: Shares = None,
) -> StepMetrics:
    """Take a step as ``take_step`` does, and return its metrics.

    Raise DsvError, which says ``when``, where a loss or the gradient is no number; nothing has been changed then.
    """
    return take_step(model, optimizer, batches, rate, clip, device, when, shares).read()


def take_step(
    model: Any,
    optimizer: Optimizer,
    batches: list[Batch],
    rate: float,
    clip: float,
    device: torch.device,
    when: str = "",
    shares: Shares = None,
    late: bool = False,
) -> TakenStep:
    """Accumulate the gradients of ``batches`` and take one step, routers included.

    ``clip`` is the largest norm of the gradient, 0 for none; ``shares`` is as for ``backward``. Where a loss or the
    gradient is no number, nothing is changed: with ``late`` the device decides that, nothing waits for it, and it is
    an error once the step is read; else raise Diverged here.
    """
    taken = TakenStep(device, rate, sum(batch.tokens for batch in batches), when)
    model.train()
    taken.values = backward(model, batches, device, shares, taken.computed)
    taken.values["grad_norm"] = norm = optimizer.gradient_norm()
    skip = None
    if late:
        skip = (~taken.finite()).float()
    else:
        finite(taken.values, when)
    set_rate(optimizer, rate)
    optimizer.step(clipping(norm, clip), skip)
    taken.loads = move_routers(model, skip)
    taken.end()
    return taken


def clipping(norm: Tensor, most: float) -> Tensor | None:
    """Return the factor of gradients that leaves them a norm of at most ``most``, None where that is 0."""
    return (most / (norm + 1e-6)).clamp(max=1.0) if most else None


def move_routers(model: nn.Module, skip: Tensor | None) -> dict[str, Tensor]:
    """Move the biases of routers by their load, and return that; with ``skip`` 1 they stay as they are."""
    loads = expert_load(model)
    found = {path: load_E.clone() for path, load_E in loads.items()}
    if skip is not None and loads:
        torch._foreach_mul_([*loads.values()], 1 - skip)  # an even load moves no bias
    with schedule_errors():
        after_step(model)
    return found


def losses_of(model: nn.Module, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Return the losses of a batch, by name, each a scalar."""
    at = batch.to(device)
    packed = {} if at.documents is None else {"documents": at.documents}
    with schedule_errors():
        found: dict[str, Tensor] = model(at.inputs, at.targets, **packed)
    return found


def reached(model: nn.Module, batch: Batch, device: torch.device) -> frozenset[nn.Parameter]:
    """Return the parameters that the losses of a batch depend on, those included that weigh nothing now.

    One row is enough, and all that memory may have room for: nothing is recomputed here.
    """
    model.eval()
    row = Batch(batch.inputs[:1], batch.targets[:1], None if batch.documents is None else batch.documents[:1])
    left, seen, found = [losses_of(model, row, device)["loss"].grad_fn], set[Any](), set[nn.Parameter]()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [before for before, _ in node.next_functions]
            found |= {node.variable} if hasattr(node, "variable") else set()
    return frozenset(found)


def backward(
    model: nn.Module, batches: list[Batch], device: torch.device, shares: Shares = None,
    computed: list[frozenset[str]] | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Add the gradient of the loss over ``batches``; return the losses over them, and put the names of those of each
    batch into ``computed``.

    They are means, each over the batches that computed it. ``shares`` has for each batch the factor by which a loss
    counts there more than an equal part, where batches have unequally many targets.
    """
    found: list[dict[str, Tensor]] = []
    for batch, share in zip(batches, shares or [{}] * len(batches), strict=True):
        losses = losses_of(model, batch, device)
        if not losses["loss"].requires_grad:
            raise DsvError("there is nothing to train: no loss depends on a parameter that is trained")
        losses = shared(losses, share)
        (losses["loss"] / len(batches)).backward()
        found.append({name: value.detach().float() for name, value in losses.items()})
    if computed is not None:
        computed += [frozenset(losses) for losses in found]
    return means(found)


def means(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each loss over the batches that have it."""
    names = dict.fromkeys(name for losses in found for name in losses)
    values = {name: [losses[name] for losses in found if name in losses] for name in names}
    return {name: sum(value / len(of) for value in of) for name, of in values.items()}


def shared(losses: dict[str, Tensor], share: dict[str, float]) -> dict[str, Tensor]:
    """Return ``losses`` with those in ``share`` times their factor, in the weighted sum `loss` too."""
    share = {name: factor for name, factor in share.items() if name in losses}
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
def evaluate(model: nn.Module, batches: Iterable[Batch], device: torch.device, when: str = "") -> dict[str, float]:
    """Return mean losses over ``batches``, by name, each batch by the targets that it counts, without a trace.

    Raise DsvError, which says ``when``, where one is infinite or NaN.
    """
    model.eval()
    sums: dict[str, Tensor] = {}
    counted = 0
    for batch in batches:
        counted += batch.counted
        for name, value in losses_of(model, batch, device).items():
            sums[name] = sums.get(name, 0) + value.float() * batch.counted
    return finite({name: value / max(1, counted) for name, value in sums.items()}, when)
