"""What a run takes: FLOPs, bytes moved, memory, and time on a device, for training, prefill or decoding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from dsvgraph.dims import Size, divide
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model
from dsvgraph.passes.count.cost import Cost, cost
from dsvgraph.passes.count.generic import numeric_model
from dsvgraph.passes.count.gradients import backward
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import input_sizes, tokens
from dsvgraph.passes.count.quantity import Quantity, over, plain
from dsvgraph.passes.estimate.aggregation import Aggregation, FlopsAndBytes, Share
from dsvgraph.passes.estimate.devices import Device
from dsvgraph.passes.estimate.drafting import DraftingEstimate, estimated
from dsvgraph.passes.estimate.memory import (
    WIDTH,
    ActivationRuns,
    InferenceMemory,
    TrainingMemory,
    activation_runs,
    inference,
    training,
)
from dsvgraph.passes.estimate.op_costs import CostWalk
from dsvgraph.passes.estimate.roofline import Draft, Rate, Roofline, Seconds, at_mfu, at_rate, between, drafted
from dsvgraph.passes.estimate.workload import OpCost, Workload
from dsvgraph.passes.graph.decoding import looks_ahead
from dsvgraph.passes.graph.drafting import drafting
from dsvgraph.passes.graph.own_tokens import check_drafts, without_inserted
from dsvgraph.passes.options import AttentionMode, Dtype, Grouping, Phase, Recompute, member
from dsvgraph.types import AttentionPairs


@dataclass(frozen=True)
class PlanOptions:
    """What to plan for. ``context``: tokens in the cache; ``mfu`` and ``rate`` (tokens per second): give one.

    >>> PlanOptions(phase="decode", batch=8, context=4096).dtype
    <Dtype.BFLOAT16: 'bfloat16'>
    """

    phase: str = Phase.TRAIN
    batch: int = 1
    seq: int = 4096
    context: int | None = None  # None: ``seq``
    dtype: str = Dtype.BFLOAT16
    attention: str | None = None  # None: absorbed when decoding, else causal
    recompute: str = Recompute.NONE
    drafting: bool = False
    drafts: int | None = None  # None: as many as the model has heads
    reuse_last: bool = False  # whether the last of a chain drafts further than it was trained to
    acceptance: tuple[float, ...] | None = None  # of the drafts: one chance for all, or one for each
    device: Device | None = None
    mfu: float | None = None
    rate: float | None = None
    tokens: float | None = None


@dataclass(frozen=True)
class Plan:
    """What one step of a phase takes, on one device that holds all of the model."""

    name: str
    phase: Phase
    batch: int
    seq: int
    context: int
    dtype: Dtype
    attention: AttentionMode
    recompute: Recompute
    drafting: bool
    tokens_per_step: int
    flops: FlopsAndBytes
    memory: TrainingMemory | InferenceMemory
    roofline: Roofline | None
    run: Rate | None
    drafts: tuple[Draft, ...]
    drafting_estimate: DraftingEstimate | None = None
    op_costs: tuple[OpCost, ...] = field(default=(), repr=False)
    aggregation: Aggregation | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for ``--json``."""
        found: dict[str, Any] = plain(self)
        return found

    def by(self, what: str, on: Device | None = None) -> list[Share]:
        """Return the costs by `role`, `block` or `path`, in the model's order; they add up to the whole.

        Raise DsvError if ``what`` is another word.
        """
        assert self.aggregation is not None
        return self.aggregation.parts(self.op_costs, member(Grouping, "by", what), on)


def plan(model: Model, options: PlanOptions | None = None) -> Plan:
    """Return what one step of ``model`` takes: FLOPs, bytes moved, memory, and time if a device is given.

    Raise DsvError if an option fits neither the phase nor the model.

    >>> import dsvgraph
    >>> step = plan(dsvgraph.load("tutorial_mtp"), PlanOptions(phase="decode", batch=2, context=100))
    >>> print(step.memory.cache)
    1536000 = 7680*B*C
    """
    options = options or PlanOptions()
    model = numeric_model(model)
    choices = _Choices(options)
    return _Planner(model if choices.phase == Phase.TRAIN else without_inserted(model), options, choices).plan()


class _Choices:
    """The words of the options as members. Raises DsvError if one is not a member, or a number not above zero."""

    def __init__(self, o: PlanOptions) -> None:
        self.phase = member(Phase, "phase", o.phase)
        self.dtype = member(Dtype, "dtype", o.dtype)
        self.recompute = member(Recompute, "recompute", o.recompute)
        default = AttentionMode.ABSORBED if self.phase == Phase.DECODE else AttentionMode.CAUSAL
        self.attention = default if o.attention is None else member(AttentionMode, "attention", o.attention)
        for name in ("context", "mfu", "rate", "tokens"):
            if (value := getattr(o, name)) is not None and not value > 0:
                raise DsvError(f"`{name}` is above zero, found `{value}`")


class _Planner:
    def __init__(self, model: Model, options: PlanOptions, choices: _Choices) -> None:
        self.model, self.o = model, options
        _check(model, options)
        self.phase, self.dtype, self.attention = choices.phase, choices.dtype, choices.attention
        self.recompute = choices.recompute
        self.context = options.seq if options.context is None else options.context
        self.train = self.phase == Phase.TRAIN
        self.all_outputs = self.train or options.drafting
        self.recomputed = self.train and self.recompute == Recompute.FULL

    def plan(self) -> Plan:
        o, counts = self.o, self.counts()
        runs = activation_runs(self.model, o.batch, o.seq, self.dtype) if self.train else None
        walk = self.walk(self.workload(1 + self.drafts), runs)
        op_costs, aggregation = tuple(walk.op_costs()), self.aggregation(walk)
        flops = aggregation.flops_and_bytes(op_costs)
        memory = self.memory(counts, walk, aggregation.cache(op_costs), runs)
        return Plan(
            name=self.model.name,
            phase=self.phase,
            batch=o.batch,
            seq=o.seq,
            context=self.context,
            dtype=self.dtype,
            attention=self.attention,
            recompute=self.recompute,
            drafting=o.drafting,
            tokens_per_step=aggregation.rows,
            flops=flops,
            memory=memory,
            roofline=self.roofline(op_costs, flops, aggregation, memory),
            run=self.rate(flops),
            drafts=drafted(self.drafts, self.step_times(o.batch) if o.device else None) if self.drafts else (),
            drafting_estimate=self.estimate(),
            op_costs=op_costs,
            aggregation=aggregation,
        )

    @property
    def drafts(self) -> int:
        """Tokens drafted a step."""
        if not self.o.drafting or self.phase != Phase.DECODE:
            return 0
        return self.model.depths if self.o.drafts is None else self.o.drafts

    def counts(self) -> Cost:
        return cost(self.model, self.o.batch, self.o.seq, formulas=False)

    def workload(self, queries: int = 1, all_outputs: bool | None = None) -> Workload:
        return Workload(
            phase=self.phase,
            batch=self.o.batch,
            seq=self.o.seq,
            context=self.context,
            attention=self.attention,
            width=WIDTH[self.dtype],
            all_outputs=self.all_outputs if all_outputs is None else all_outputs,
            queries=queries,
        )

    def walk(self, workload: Workload, runs: ActivationRuns | None = None) -> CostWalk:
        costs = {}
        if self.train:
            causal = self.attention == AttentionMode.CAUSAL
            pairs = AttentionPairs.CAUSAL if causal else AttentionPairs.FULL
            sizes = input_sizes(self.model, self.o.batch, self.o.seq)
            costs = dict(backward(self.model, GraphCounter(tokens(self.model), sizes, pairs)))
        kept = (runs.checkpointed if self.recomputed else runs.plain).kept if runs else {}
        return CostWalk(self.model, workload, costs, kept)

    def aggregation(self, walk: CostWalk) -> Aggregation:
        rows = self.o.batch * walk.workload.rows
        return Aggregation(
            dtype=self.dtype,
            train=self.train,
            recomputed=self.recomputed,
            rows=rows,
            values=walk.values,
            tokens=walk.tokens,
        )

    def memory(
        self, counts: Cost, walk: CostWalk, cache_bytes: Size, runs: ActivationRuns | None
    ) -> TrainingMemory | InferenceMemory:
        o, owned = self.o, counts.parameters
        if self.train:
            return training(self.model, o.batch, o.seq, owned.trained, self.dtype, owned=owned.total, runs=runs)
        weights = owned.total if self.all_outputs else owned.inference
        cache = counts.kv_cache
        per_token, per_row = cache.elements_per_token, cache.elements_per_row
        if self.all_outputs:
            per_token, per_row = cache.elements_per_token_all_outputs, cache.elements_per_row_all_outputs
        return inference(weights, per_token, per_row, self.dtype, cache_bytes, walk.rows, walk.context, walk.values)

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
        time, peak = aggregation.seconds(op_costs, on), on.peak(self.dtype)
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
            return at_mfu(o.device, self.dtype, needed, o.mfu, o.tokens)
        return at_rate(o.device, self.dtype, needed, o.rate or 0.0, o.tokens)

    def estimate(self) -> DraftingEstimate | None:
        times = self.step_times if self.o.device else None
        return estimated(self.drafts, self.o.acceptance, self.o.batch, times) if self.drafts else None

    def step_times(self, batch: int) -> tuple[Seconds, Seconds]:
        """Return the time of a step with drafts of ``batch`` rows, and of one without.

        Each head runs over all positions of a step; where more or fewer drafts are made than there are heads, the heads
        take as much more or less.
        """
        mine = _Planner(self.model, replace(self.o, batch=batch), _Choices(self.o))
        queries, heads = 1 + self.drafts, self.drafts / self.model.depths
        every, alone = mine.seconds(queries, True), mine.seconds(1, False)
        return (every if heads == 1 else between(mine.seconds(queries, False), every, heads)), alone

    def seconds(self, queries: int, all_outputs: bool) -> Seconds:
        assert self.o.device
        walk = self.walk(self.workload(queries, all_outputs))
        return self.aggregation(walk).seconds(tuple(walk.op_costs()), self.o.device)


def _check(model: Model, o: PlanOptions) -> None:
    """Raise DsvError if an option does not fit the phase or the model."""
    if o.phase == Phase.DECODE and (ahead := looks_ahead(model)):
        words = f"`{ahead.name}` looks ahead, so `{model.name}` cannot be decoded step by step"
        raise DsvError(words, ahead.span, hint="--phase prefill is a whole row")
    if o.phase == Phase.TRAIN and o.dtype == Dtype.FLOAT8:
        raise DsvError("a training step is planned in float32 or bfloat16, as the compiled module trains")
    if o.attention == AttentionMode.ABSORBED and o.phase != Phase.DECODE:
        raise DsvError("absorbed attention is a way of decoding", hint="use it with --phase decode")
    if o.phase == Phase.DECODE and len(model.lengths) > 1:
        rows = " and ".join(map(str, model.lengths))
        raise DsvError(f"`{model.name}` has rows of {rows} positions: what decoding keeps of them is not known")
    if o.context is not None and o.phase != Phase.DECODE:
        raise DsvError("a context is what decoding has in its cache", hint="--seq tells how long the rows are")
    if o.recompute == Recompute.FULL and o.phase != Phase.TRAIN:
        raise DsvError("there is nothing to recompute without a backward")
    _check_drafting(model, o)
    if o.device is None and (o.mfu is not None or o.rate is not None or o.tokens is not None):
        raise DsvError("a share of the peak, a rate and a number of tokens need a device", hint="add --device h200")
    if o.tokens is not None and o.mfu is None and o.rate is None:
        raise DsvError("hours for a number of tokens need --mfu or --tokens-per-second")


def _check_drafting(model: Model, o: PlanOptions) -> None:
    """Raise DsvError if the options of drafting do not fit the phase or the model."""
    if not o.drafting:
        if o.drafts is not None or o.acceptance is not None or o.reuse_last:
            raise DsvError("drafts and their acceptance need a model that drafts", hint="add --drafting")
        return
    if o.phase == Phase.TRAIN:
        raise DsvError("training runs every head", hint="drafting goes with --phase decode")
    if not model.depths:
        raise DsvError(f"`{model.name}` has no loss by depth, so no heads to draft with")
    check_drafts(model)
    if o.drafts is not None:
        drafting(model, o.drafts, o.reuse_last)
