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
from dsvgraph.passes.count.graph_counts import Attention, GraphCounter, input_sizes, one_of, tokens
from dsvgraph.passes.count.quantity import Quantity, over, plain
from dsvgraph.passes.estimate.aggregation import Aggregation, FlopsAndBytes, Part
from dsvgraph.passes.estimate.devices import Device, device, devices
from dsvgraph.passes.estimate.drafting import Draft, drafted, expected_tokens
from dsvgraph.passes.estimate.memory import (
    WIDTH,
    ActivationRuns,
    Dtype,
    InferenceMemory,
    TrainingMemory,
    activation_runs,
    inference,
    training,
)
from dsvgraph.passes.estimate.op_costs import CostWalk
from dsvgraph.passes.estimate.roofline import Rate, Roofline, at_mfu, at_rate
from dsvgraph.passes.estimate.workload import AttentionMode, OpCost, Phase, Workload
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
    attention: AttentionMode | None = None  # None: absorbed when decoding, else causal
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
    flops: FlopsAndBytes
    memory: TrainingMemory | InferenceMemory
    roofline: Roofline | None
    run: Rate | None
    drafts: tuple[Draft, ...]
    op_costs: tuple[OpCost, ...] = field(default=(), repr=False)
    aggregation: Aggregation | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, for ``--json``."""
        found: dict[str, Any] = plain(self)
        return found

    def by(self, what: str, on: Device | None = None) -> list[Part]:
        """The work by ``role``, ``block`` or ``path``, in the model's order; it adds up to the whole."""
        assert self.aggregation is not None
        return self.aggregation.parts(self.op_costs, what, on)


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
        self.all_outputs = self.train or options.drafting
        self.recomputed = self.train and options.recompute == "full"

    def plan(self) -> Plan:
        o, counts = self.o, self.counts()
        runs = activation_runs(self.model, o.batch, o.seq, o.dtype) if self.train else None
        walk = self.walk(self.workload(1 + self.drafts), runs)
        op_costs, aggregation = tuple(walk.op_costs()), self.aggregation(walk)
        flops, memory = (
            aggregation.flops_and_bytes(op_costs),
            self.memory(counts, walk, aggregation.cache(op_costs), runs),
        )
        return Plan(
            self.model.name, o.phase, o.batch, o.seq, self.context, o.dtype, self.attention, o.recompute, o.drafting,
            aggregation.rows, flops, memory, self.roofline(op_costs, flops, aggregation, memory), self.rate(flops),
            self.drafted(op_costs, aggregation), op_costs, aggregation,
        )  # fmt: skip

    @property
    def drafts(self) -> int:
        """Tokens drafted a step."""
        return self.model.depths if self.o.drafting and self.o.phase == "decode" else 0

    def counts(self) -> Cost:
        return cost(self.model, self.o.batch, self.o.seq, "causal", formulas=False)

    def workload(self, queries: int = 1, all_outputs: bool | None = None) -> Workload:
        return Workload(
            self.o.phase, self.o.batch, self.o.seq, self.context, self.attention, WIDTH[self.o.dtype],
            self.all_outputs if all_outputs is None else all_outputs, queries,
        )  # fmt: skip

    def walk(self, workload: Workload, runs: ActivationRuns | None = None) -> CostWalk:
        costs = {}
        if self.train:
            attention: Attention = "causal" if self.attention == "causal" else "full"
            sizes = input_sizes(self.model, self.o.batch, self.o.seq)
            costs = dict(backward(self.model, GraphCounter(tokens(self.model), sizes, attention)))
        kept = (runs.checkpointed if self.recomputed else runs.plain).kept if runs else {}
        return CostWalk(self.model, workload, costs, kept)

    def aggregation(self, walk: CostWalk) -> Aggregation:
        rows = self.o.batch * walk.workload.rows
        return Aggregation(self.o.dtype, self.train, self.recomputed, rows, walk.values, walk.tokens)

    def memory(
        self, counts: Cost, walk: CostWalk, cache_bytes: Size, runs: ActivationRuns | None
    ) -> TrainingMemory | InferenceMemory:
        o, owned = self.o, counts.parameters
        if self.train:
            return training(self.model, o.batch, o.seq, owned.trained, o.dtype, owned=owned.total, runs=runs)
        weights = owned.total if self.all_outputs else owned.inference
        cache = counts.kv_cache
        per_token, per_row = cache.elements_per_token, cache.elements_per_row
        if self.all_outputs:
            per_token, per_row = cache.elements_per_token_all_outputs, cache.elements_per_row_all_outputs
        return inference(weights, per_token, per_row, o.dtype, cache_bytes, walk.rows, walk.context, walk.values)

    def roofline(
        self,
        op_costs: Iterable[OpCost],
        flops: FlopsAndBytes,
        aggregation: Aggregation,
        memory: TrainingMemory | InferenceMemory,
    ) -> Roofline | None:
        on = self.o.device
        if on is None:
            return None
        time, peak = aggregation.seconds(op_costs, on), on.peak(self.o.dtype)
        queries = 1 + self.drafts  # of which one is made for sure
        best, made = time.best, divide(aggregation.tokens, queries)
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
            tokens_per_second=Quantity(aggregation.rows / queries / best.value, f"{made}/({best.formula})"),
            mfu=Quantity(used, f"{whole}/({best.formula})"),
            fits=taken.value <= on.memory,
        )

    def rate(self, flops: FlopsAndBytes) -> Rate | None:
        o = self.o
        if o.device is None or (o.mfu is None and o.rate is None):
            return None
        needed = flops.model_per_token
        if o.mfu is not None:
            return at_mfu(o.device, o.dtype, needed, o.mfu, o.tokens)
        return at_rate(o.device, o.dtype, needed, o.rate or 0.0, o.tokens)

    def drafted(self, op_costs: Iterable[OpCost], aggregation: Aggregation) -> tuple[Draft, ...]:
        if not self.drafts:
            return ()
        on, times = self.o.device, None
        if on is not None:
            alone = self.walk(self.workload(1, all_outputs=False))
            times = (
                aggregation.seconds(op_costs, on),
                replace(aggregation, tokens=alone.tokens).seconds(alone.op_costs(), on),
            )
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
        one_of(AttentionMode, "attention", o.attention)
    for what in ("context", "mfu", "rate", "tokens"):
        if (value := getattr(o, what)) is not None and not value > 0:
            raise DsvError(f"`{what}` is above zero, found `{value}`")
