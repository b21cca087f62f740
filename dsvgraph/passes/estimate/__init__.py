"""What a run takes: FLOPs, bytes moved, memory, and time on a device, for training, prefill or decoding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from dsvgraph.build import build
from dsvgraph.dims import Size, divide
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.passes.count.cost import Cost, Recompute, cost
from dsvgraph.passes.count.gradients import backward
from dsvgraph.passes.count.quantity import Quantity, over, plain
from dsvgraph.passes.count.tally import Attention, Meter, input_sizes, one_of, tokens
from dsvgraph.passes.estimate.devices import Device, device, devices
from dsvgraph.passes.estimate.drafting import Draft, drafted, expected_tokens
from dsvgraph.passes.estimate.memory import (
    WIDTH,
    Dtype,
    InferenceMemory,
    Steps,
    TrainingMemory,
    inference,
    steps,
    training,
)
from dsvgraph.passes.estimate.roofline import Rate, Roofline, at_mfu, at_rate
from dsvgraph.passes.estimate.sums import Part, Sums, Traffic
from dsvgraph.passes.estimate.work import Phase, Setting, Way, Work, Worker
from dsvgraph.passes.graph.decoding import looks_ahead
from dsvgraph.spec import with_settings

__all__ = [
    "Device", "Draft", "Dtype", "Options", "Part", "Phase", "Plan", "Rate", "Roofline", "Traffic", "device", "devices",
    "expected_tokens", "plan",
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to plan for. ``context``: tokens in the cache; ``mfu`` and ``rate`` (tokens per second): give one."""

    phase: Phase = "train"
    batch: int = 1
    seq: int = 4096
    context: int | None = None  # None: ``seq``
    dtype: Dtype = "bfloat16"
    attention: Way | None = None  # None: absorbed when decoding, else causal
    recompute: Recompute = "none"
    drafting: bool = False
    device: Device | None = None
    mfu: float | None = None
    rate: float | None = None
    tokens: float | None = None


@dataclass(frozen=True)
class Plan:
    """What one step of a phase takes. Everything per device as if one held all."""

    name: str
    phase: Phase
    batch: int
    seq: int
    context: int
    dtype: Dtype
    attention: str
    recompute: str
    drafting: bool
    tokens_per_step: int
    flops: Traffic
    memory: TrainingMemory | InferenceMemory
    roofline: Roofline | None
    run: Rate | None
    drafts: tuple[Draft, ...]
    work: tuple[Work, ...] = field(default=(), repr=False)
    sums: Sums | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, for ``--json``."""
        found: dict[str, Any] = plain(self)
        return found

    def by(self, what: str, on: Device | None = None) -> list[Part]:
        """The work by ``role``, ``block`` or ``path``, in the model's order; it adds up to the whole."""
        assert self.sums is not None
        return self.sums.parts(self.work, what, on)


def plan(model: Model, options: Options | None = None) -> Plan:
    """What one step of ``model`` takes.

    Raises DsvError where an option fits neither the phase nor the model.
    """
    if model.spec is not None and model.spec.symbolic:
        model = build(with_settings(model.spec, {}))
    return _Planner(model, options or Options()).plan()


class _Planner:
    def __init__(self, model: Model, options: Options) -> None:
        self.model, self.o = model, options
        _check(model, options)
        self.context = options.seq if options.context is None else options.context
        self.attention = options.attention or ("absorbed" if options.phase == "decode" else "causal")
        self.train = options.phase == "train"
        self.heads = self.train or options.drafting
        self.again = self.train and options.recompute == "full"

    def plan(self) -> Plan:
        o, counts = self.o, self.counts()
        runs = steps(self.model, o.batch, o.seq, o.dtype) if self.train else None
        worker = self.worker(self.setting(1 + self.drafts), runs)
        work, sums = tuple(worker.work()), self.sums(worker)
        flops, memory = sums.traffic(work), self.memory(counts, worker, sums.cache(work), runs)
        return Plan(
            self.model.name, o.phase, o.batch, o.seq, self.context, o.dtype, self.attention, o.recompute, o.drafting,
            sums.rows, flops, memory, self.roofline(work, flops, sums, memory), self.rate(flops),
            self.drafted(work, sums), work, sums,
        )  # fmt: skip

    @property
    def drafts(self) -> int:
        """Tokens drafted a step."""
        return self.model.depths if self.o.drafting and self.o.phase == "decode" else 0

    def counts(self) -> Cost:
        return cost(self.model, self.o.batch, self.o.seq, "causal", formulas=False)

    def setting(self, queries: int = 1, heads: bool | None = None) -> Setting:
        return Setting(
            self.o.phase, self.o.batch, self.o.seq, self.context, self.attention, WIDTH[self.o.dtype],
            self.heads if heads is None else heads, queries,
        )  # fmt: skip

    def worker(self, setting: Setting, runs: Steps | None = None) -> Worker:
        costs = {}
        if self.train:
            attention: Attention = "causal" if self.attention == "causal" else "full"
            sizes = input_sizes(self.model, self.o.batch, self.o.seq)
            costs = dict(backward(self.model, Meter(tokens(self.model), sizes, attention)))
        kept = (runs.checkpointed if self.again else runs.plain).kept if runs else {}
        return Worker(self.model, setting, costs, kept)

    def sums(self, worker: Worker) -> Sums:
        rows = self.o.batch * worker.setting.rows
        return Sums(self.o.dtype, self.train, self.again, rows, worker.values, worker.tokens)

    def memory(self, counts: Cost, worker: Worker, held: Size, runs: Steps | None) -> TrainingMemory | InferenceMemory:
        o, owned = self.o, counts.parameters
        if self.train:
            return training(self.model, o.batch, o.seq, owned.trained, o.dtype, owned=owned.total, runs=runs)
        weights = owned.total if self.heads else owned.inference
        cache = counts.kv_cache
        per_token, per_row = cache.elements_per_token, cache.elements_per_row
        if self.heads:
            per_token, per_row = cache.elements_per_token_all_outputs, cache.elements_per_row_all_outputs
        return inference(weights, per_token, per_row, o.dtype, held, worker.rows, worker.context, worker.values)

    def roofline(
        self, work: Iterable[Work], flops: Traffic, sums: Sums, memory: TrainingMemory | InferenceMemory
    ) -> Roofline | None:
        on = self.o.device
        if on is None:
            return None
        time, peak = sums.seconds(work, on), on.peak(self.o.dtype)
        queries = 1 + self.drafts  # of which one is made for sure
        best, made = time.best, divide(sums.tokens, queries)
        used = (flops.forward.value + flops.backward.value) / best.value / peak
        whole = over(f"{flops.forward.formula} + {flops.backward.formula}", peak)
        taken = memory.peak if isinstance(memory, TrainingMemory) else memory.total
        return Roofline(
            device=on.name,
            peak_flops=peak,
            bandwidth=on.bandwidth,
            seconds=best,
            seconds_computing=time.computing,
            seconds_moving=time.moving,
            tokens_per_second=Quantity(sums.rows / queries / best.value, f"{made}/({best.formula})"),
            mfu=Quantity(used, f"{whole}/({best.formula})"),
            fits=taken.value <= on.memory,
        )

    def rate(self, flops: Traffic) -> Rate | None:
        o = self.o
        if o.device is None or (o.mfu is None and o.rate is None):
            return None
        needed = flops.model_per_token
        if o.mfu is not None:
            return at_mfu(o.device, o.dtype, needed, o.mfu, o.tokens)
        return at_rate(o.device, o.dtype, needed, o.rate or 0.0, o.tokens)

    def drafted(self, work: Iterable[Work], sums: Sums) -> tuple[Draft, ...]:
        if not self.drafts:
            return ()
        on, times = self.o.device, None
        if on is not None:
            alone = self.worker(self.setting(1, heads=False))
            times = sums.seconds(work, on), replace(sums, tokens=alone.tokens).seconds(alone.work(), on)
        return drafted(self.drafts, times)


def _check(model: Model, o: Options) -> None:
    """Raises DsvError where an option does not fit."""
    _check_values(o)
    if o.phase == "decode" and (ahead := looks_ahead(model)):
        words = f"`{ahead.name}` looks ahead, so `{model.name}` cannot be decoded step by step"
        raise DsvError(words, ahead.span, hint="--phase prefill is a whole row")
    if o.phase == "train" and o.dtype == "float8":
        raise DsvError("a training step is planned in float32 or bfloat16, as the compiled module trains")
    if o.attention == "absorbed" and o.phase != "decode":
        raise DsvError("absorbed attention is a way of decoding", hint="use it with --phase decode")
    if o.phase == "decode" and len(model.lengths) > 1:
        rows = " and ".join(map(str, model.lengths))
        raise DsvError(f"`{model.name}` has rows of {rows} positions: what decoding keeps of them is not known")
    if o.context is not None and o.phase != "decode":
        raise DsvError("a context is what decoding has in its cache", hint="--seq tells how long the rows are")
    if o.recompute == "full" and o.phase != "train":
        raise DsvError("there is nothing to recompute without a backward")
    if o.drafting and o.phase == "train":
        raise DsvError("training runs every head", hint="drafting is told with --phase decode")
    if o.drafting and not model.depths:
        raise DsvError(f"`{model.name}` has no loss by depth, so no heads to draft with")
    if o.device is None and (o.mfu is not None or o.rate is not None or o.tokens is not None):
        raise DsvError("a share of the peak, a rate and a number of tokens need a device", hint="add --device h200")
    if o.tokens is not None and o.mfu is None and o.rate is None:
        raise DsvError("hours for a number of tokens need --mfu or --tokens-per-second")


def _check_values(o: Options) -> None:
    """Raises DsvError where an option has a value that no option of this name has."""
    for words, what in ((Phase, "phase"), (Dtype, "dtype"), (Recompute, "recompute")):
        one_of(words, what, getattr(o, what))
    if o.attention is not None:
        one_of(Way, "attention", o.attention)
    for what in ("context", "mfu", "rate", "tokens"):
        if (value := getattr(o, what)) is not None and not value > 0:
            raise DsvError(f"`{what}` is above zero, found `{value}`")
