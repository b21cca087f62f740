"""What a model costs: parameters, active parameters, FLOPs and cache, in numbers and in formulas.

Weights are counted where they are owned, FLOPs where they are used. docs/cost.md has the conventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dsvgraph.dims import Size, names, ratio, substitute, total
from dsvgraph.graph import Model
from dsvgraph.ops.tape import HALF
from dsvgraph.passes.count.by_block import BlockCost, block_costs
from dsvgraph.passes.count.generic import generic_model, integer_config, numeric_model, repeat_names
from dsvgraph.passes.count.gradients import Costs, Unequal, backward
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import batch, input_sizes, tokens
from dsvgraph.passes.count.quantity import number, plain
from dsvgraph.passes.graph.decoding import CacheCounter
from dsvgraph.passes.graph.output_layer import output_layer_size
from dsvgraph.passes.graph.own_tokens import without_inserted
from dsvgraph.passes.graph.paths import last_matches, weights
from dsvgraph.passes.options import Recompute, member
from dsvgraph.types import AttentionPairs


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights. ``inference`` is what the first output depends on, ``active`` per token there.

    ``active`` has no common convention, so each is a number of its own; docs/cost.md says who uses which.
    """

    total: int
    inference: int
    active: int
    active_without_embedding: int
    active_without_embedding_and_head: int
    active_all_outputs: int  # what every output depends on: heads that inference drops are kept
    routers: int  # of `active`: what chooses experts, selection biases included
    trained: int  # by gradients, of the total
    untrained: int  # selection biases, and what the section `trained` freezes
    selection_biases: int  # of `inference`: what routers add to choose experts, moved without gradients


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, a multiply-add counted as two; for the whole batch or per token."""

    attention: AttentionPairs  # causal: what a causal kernel computes; full: no half; square: no windows either
    recompute: Recompute  # full: the backward begins with the forward once more, as checkpointing does
    forward: float
    backward: float  # from every output: one product for each operand that needs a gradient
    train: float  # forward, backward, and what is recomputed
    inference_forward: float
    forward_per_token: float
    backward_per_token: float
    train_per_token: float
    inference_forward_per_token: float
    by_op: Mapping[str, float]  # of `forward`


@dataclass(frozen=True)
class KVCache:
    """What decoding keeps for the first output, and if all heads are kept: per token, and per row whatever its length.

    Per row are the last positions of a shift, and states that ops carry.
    """

    elements_per_token: float
    bytes_per_token: float
    elements_per_token_all_outputs: float
    elements_per_row: float
    elements_per_row_all_outputs: float


@dataclass(frozen=True)
class Cost:
    """The cost of one model on ``batch`` rows of ``seq`` tokens."""

    name: str
    batch: int
    seq: int
    parameters: Parameters
    flops: Flops
    kv_cache: KVCache
    symbolic: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[BlockCost, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the cost as plain data, for ``--json``."""
        found: dict[str, Any] = plain(self)
        return found


def cost(
    model: Model,
    batch: int = 1,
    seq: int = 4096,
    attention: str = AttentionPairs.CAUSAL,
    recompute: str = Recompute.NONE,
    *,
    formulas: bool = True,
) -> Cost:
    """Return what ``model`` costs on ``batch`` rows of ``seq`` tokens; without ``formulas`` in numbers alone.

    Raise DsvError if no input has rows of positions, or if an argument is not one of the words that it may be.

    >>> import dsvgraph
    >>> cost(dsvgraph.load("deepseek_v3")).parameters.total
    682636487424
    """
    recompute = member(Recompute, "recompute", recompute)
    model = numeric_model(model)
    counts = _Quantities(
        model=model,
        values=input_sizes(model, batch, seq),
        attention=attention,
        recompute=recompute,
        frozen=bool(model.trained),
    )
    generic = _over_config_names(model, counts) if formulas else None
    return Cost(
        name=model.name,
        batch=batch,
        seq=seq,
        parameters=_parameters(model, counts),
        flops=_flops(counts),
        kv_cache=KVCache(**counts.numbers("kv_cache")),
        symbolic=_symbolic(generic) if generic else {},
        blocks=tuple(block_costs(model, counts.counter, counts.backward or {}, *_graph_and_counter(generic))),
    )


def _graph_and_counter(generic: _Quantities | None) -> tuple[Model | None, GraphCounter | None]:
    return (generic.model, generic.counter) if generic else (None, None)


class _Quantities:
    """The sums of one model, as sizes in B, T and the names that it left open."""

    def __init__(
        self, model: Model, values: Mapping[str, int], attention: str, recompute: Recompute, frozen: bool
    ) -> None:
        self.model, self.values, self.recompute = model, values, recompute
        self.frozen = frozen  # by the spec's section `trained`, whose paths have numbers and no formula
        self.tokens, self.rows = tokens(model), batch(model)
        self.counter = GraphCounter(self.tokens, values, attention)
        self.attention = self.counter.attention
        self.whole = self.counter.of(model)
        self.inference = self.counter.of(without_inserted(model), frozenset([next(iter(model.outputs))]))
        self.output_layer = output_layer_size(model)
        keeper = CacheCounter(model, values)
        self.cache, self.cache_of_all = keeper.of_model(), keeper.of_model(heads=True)
        self.found: dict[str, dict[str, Any]] = {}
        self.backward: Costs | None = None  # where copies of an open number differ
        with suppress(Unequal):
            self.backward = backward(model, self.counter)

    def numbers(self, section: str) -> dict[str, Any]:
        """Return the values of one section of the quantities."""
        if section not in self.found:
            self.found[section] = {n: number(size, self.values) for n, size in self.sizes[section].items()}
        return self.found[section]

    @cached_property
    def sizes(self) -> dict[str, dict[str, Size]]:
        """All quantities with every name that is open."""
        return self._by_section({})

    def formulas(self, kept: set[str]) -> dict[str, dict[str, str]]:
        """Return the quantities with ``kept`` (and the inputs' sizes) as names, all others as numbers."""
        sizes = {n for t in self.model.inputs.values() for s in t.shape for n in names(s)}
        values = {n: v for n, v in self.values.items() if n not in kept | sizes}
        found = self._by_section(values)
        return {part: {name: str(size) for name, size in sizes.items()} for part, sizes in found.items()}

    def _by_section(self, values: Mapping[str, int]) -> dict[str, dict[str, Size]]:
        """Return what has a formula, by section and name as in the JSON."""
        every, kept, head = (
            self.whole.filled(values),
            self.inference.filled(values),
            substitute(self.output_layer, values),
        )
        return {
            "parameters": {
                "total": every.parameters,
                "inference": kept.parameters,
                "active": kept.active,
                "active_without_embedding": kept.active - kept.embedding,
                "active_without_embedding_and_head": kept.active - kept.embedding - head,
                "active_all_outputs": every.active,
                "routers": kept.routers,
                "selection_biases": kept.untrained,
                **(
                    {} if self.frozen else {"trained": every.parameters - every.untrained, "untrained": every.untrained}
                ),
            },
            "flops": self._flops(every.forward, kept.forward, values),
            "kv_cache": self._cache(values),
        }

    def _cache(self, values: Mapping[str, int]) -> dict[str, Size]:
        growing, fixed = (substitute(size, values) for size in self.cache)
        growing_all, fixed_all = (substitute(size, values) for size in self.cache_of_all)
        return {
            "elements_per_token": ratio(growing, self.tokens),
            "bytes_per_token": ratio(growing, self.tokens) * HALF,
            "elements_per_token_all_outputs": ratio(growing_all, self.tokens),
            "elements_per_row": ratio(fixed, self.rows),
            "elements_per_row_all_outputs": ratio(fixed_all, self.rows),
        }

    def _flops(self, forward: Size, inference: Size, values: Mapping[str, int]) -> dict[str, Size]:
        found = {"forward": forward, "inference_forward": inference}
        if self.backward is not None:
            found["backward"] = substitute(total(self.backward.values()), values)
            found["train"] = forward * (1 + (self.recompute == Recompute.FULL)) + found["backward"]
        return found | {f"{name}_per_token": ratio(size, self.tokens) for name, size in found.items()}


def _parameters(model: Model, counts: _Quantities) -> Parameters:
    numbers = counts.numbers("parameters")
    if counts.frozen:
        untrained = _untrained(model)
        numbers = {**numbers, "trained": numbers["total"] - untrained, "untrained": untrained}
    return Parameters(**numbers)


def _untrained(model: Model) -> int:
    """Return the number of weights without a gradient, by their op or by the spec's section `trained`."""
    count = 0
    for path, weight, _ in weights(model):
        for trained, copies in last_matches(path, model.trained):
            frozen = trained is False or not weight.trained
            count += int(weight.numel) * copies if frozen else 0  # type: ignore[arg-type]
    return count


def _flops(counts: _Quantities) -> Flops:
    by_op = {op: number(size, counts.values) for op, size in counts.whole.flops.items()}
    return Flops(counts.attention, counts.recompute, **counts.numbers("flops"), by_op=by_op)


def _over_config_names(model: Model, counts: _Quantities) -> _Quantities | None:
    """Return the same sums over config names; None unless they give the same numbers."""
    generic = generic_model(model)
    if generic is None:
        return None
    values = {**integer_config(model), **counts.values}
    found = _Quantities(
        model=generic, values=values, attention=counts.attention, recompute=counts.recompute, frozen=counts.frozen
    )
    if found.backward is not None and found.numbers("flops") != counts.numbers("flops"):
        found = _Quantities(
            model=generic, values=values, attention=counts.attention, recompute=counts.recompute, frozen=counts.frozen
        )
        found.backward = None  # frozen weights have no names
    sections = ("parameters", "flops", "kv_cache")
    return found if all(found.numbers(s).items() <= counts.numbers(s).items() for s in sections) else None


def _symbolic(counts: _Quantities) -> dict[str, Any]:
    """Return formulas: in what inference drops (MTP depth), and in every name that layers are counted by."""
    layers = repeat_names(counts.model)
    heads = layers & names(counts.whole.parameters) - names(counts.inference.parameters)
    return {"heads": sorted(heads), **counts.formulas(heads), "by_layers": counts.formulas(layers)}
