"""Memory of a training step or of inference: weights, gradients, optimiser states, activations, cache, peak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.graph import Model
from dsvgraph.ops.tape import FLOAT, HALF
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import input_sizes, tokens
from dsvgraph.passes.count.quantity import Quantity, largest, number
from dsvgraph.passes.estimate.activations import Activations, Layer
from dsvgraph.passes.options import Dtype

WIDTH: Mapping[str, int] = {Dtype.FLOAT32: 4, Dtype.BFLOAT16: 2, Dtype.FLOAT8: 1}
STATES = 2  # AdamW keeps two numbers of each trained weight
AT_ONCE = 2**28
"""Weights that a step moves at once where their gradients are bfloat16: so many of these are copied to float32."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one training step on one device, as the compiled module takes them.

    Weights, gradients and AdamW's states are float32. Under bfloat16 these weights are the optimizer's, and the module
    has copies in 16 bits, as gradients are until the update; activations are told as autocast keeps them, which is more
    than the module does. ``peak`` is the most at any time.
    """

    weights: Quantity
    weight_copies: Quantity  # in 16 bits, from the forward to the backward
    gradients: Quantity
    optimizer: Quantity
    activations: Quantity  # kept from the forward to the backward, logits left out
    activations_checkpointed: Quantity  # the same where every layer keeps its inputs alone
    logits: Quantity  # kept for the losses; those of more than 2**25 numbers are made in chunks and not kept
    logits_unchunked: Quantity  # if all of them were kept
    peak: Quantity  # the formula holds as long as the peak is there
    peak_checkpointed: Quantity
    peak_at: str  # the piece whose backward it is, or `losses`, or `update`
    peak_checkpointed_at: str


@dataclass(frozen=True)
class InferenceMemory:
    """Bytes of inference: the weights that are kept, and the cache of ``batch`` rows of ``context`` tokens."""

    weights: Quantity
    cache_per_token: Quantity  # of one row
    cache: Quantity  # what decoding needs: of layers with a window, no more than that
    cache_without_windows: Quantity  # if nothing is forgotten, as the compiled module decodes
    total: Quantity


class ActivationRuns(NamedTuple):
    """A step's activations, as they are and where every layer keeps its inputs alone."""

    plain: Activations
    checkpointed: Activations


def activation_runs(model: Model, batch: int, seq: int, dtype: str, fused: bool = True) -> ActivationRuns:
    """Run a model for its memory, both ways."""
    values, low = input_sizes(model, batch, seq), HALF if dtype == Dtype.BFLOAT16 else FLOAT
    return ActivationRuns(
        *(
            Activations(model=model, values=values, low=low, fused=fused, checkpoint=recomputed)
            for recomputed in (False, True)
        )
    )


def training(model: Model, batch: int, seq: int, trained: int, dtype: str = Dtype.BFLOAT16, fused: bool = True,
             owned: int = 0, runs: ActivationRuns | None = None) -> TrainingMemory:  # fmt: skip
    """Return memory of one step on ``batch`` rows of ``seq`` tokens; ``owned`` weights, ``trained`` by gradients.

    ``fused`` counts with the kernels of a GPU; without it with those of a CPU.
    """
    values = input_sizes(model, batch, seq)
    runs = runs or activation_runs(model, batch, seq, dtype, fused)
    gradients = GradientBytes(model, values, trained)
    logits = runs[0].logits
    kept = [total(p.kept for p in run.layers) for run in runs]
    static = FLOAT * (owned + STATES * trained)
    peaks = [peak(run, gradients) for run in runs]
    most = [static + found.bytes for found in peaks]
    copies = total(p.weight_copies for p in runs[0].layers)

    def bytes_of(size: Size) -> Quantity:
        return Quantity.of(size, values).whole()

    return TrainingMemory(
        weights=Quantity(FLOAT * owned, f"{FLOAT}*{owned}"),
        weight_copies=bytes_of(copies),
        gradients=Quantity(FLOAT * trained, f"{FLOAT}*{trained}"),
        optimizer=Quantity(FLOAT * STATES * trained, f"{FLOAT * STATES}*{trained}"),
        activations=bytes_of(kept[0]),
        activations_checkpointed=bytes_of(kept[1]),
        logits=bytes_of(logits.kept),
        logits_unchunked=bytes_of(logits.unchunked),
        peak=Quantity(round(number(most[0], values)), str(most[0])),
        peak_checkpointed=Quantity(round(number(most[1], values)), str(most[1])),
        peak_at=peaks[0].at,
        peak_checkpointed_at=peaks[1].at,
    )


def inference(
    weights: int, per_token: float, per_row: float, dtype: str, cache_bytes: Size, rows: Size, context: Size,
    values: Mapping[str, int],
) -> InferenceMemory:  # fmt: skip
    """Return the memory of inference: ``weights`` weights, and cached numbers per token and per row of any length.

    ``cache_bytes``: bytes of the cache that windows leave, of ``rows`` of ``context`` tokens. A cache of a model
    in 8 bits stays in 16.
    """
    width, wide = WIDTH[dtype], max(WIDTH[dtype], HALF)
    cache, own = round(per_token * wide), weights * width
    kept, whole = int(number(cache_bytes, values)), (cache * context + round(per_row * wide)) * rows
    return InferenceMemory(
        weights=Quantity(own, f"{width}*{weights}"),
        cache_per_token=Quantity(cache, f"{wide}*{per_token}"),
        cache=Quantity(kept, str(cache_bytes)),
        cache_without_windows=Quantity.of(whole, values).whole(),
        total=Quantity(own + kept, str(own + cache_bytes)),
    )


class GradientBytes:
    """Bytes of the gradients that the backward of a piece leaves."""

    def __init__(self, model: Model, values: Mapping[str, int], trained: int) -> None:
        self.model, self.counter, self.values = model, GraphCounter(tokens(model), values), values
        whole = self.counter.of(model)
        by_op = int(number(whole.parameters - whole.untrained, values))
        self.share = trained / by_op if by_op else 0.0  # what the spec does not freeze

    def of(self, layer: Layer) -> int:
        """Return those of its own weights; copies with one set of weights have a share each."""
        if layer.graph is None:
            owned: Size = total(w.numel for w in layer.node.weights.values() if w.trained)
        else:
            counts = self.counter.of(layer.graph)
            owned = counts.parameters - counts.untrained
        uses = float(number(layer.node.count, self.values)) if layer.node.reused else 1
        return round(FLOAT * self.share * float(number(owned, self.values)) / uses)

    def of_shared(self, layer: Layer, low: int) -> int:
        """Return those of weights that are used elsewhere too: what came from there and one to be added to it.

        In float32 the one of a product is a view, so that the sum is a third.
        """
        names = {use.port for use in self.model.uses.get(layer.node.name, ())}
        found = total(w.numel for name, w in layer.node.weights.items() if name in names and w.trained)
        return round((3 if low == FLOAT else 2) * FLOAT * self.share * float(number(found, self.values)))


def update_copies(gradients: int, low: int, accumulated: bool) -> int:
    """Return the bytes at the update beside float32 weights, states and ``gradients``, all of which are there.

    Under bfloat16 those are the module's weights; gradients take half, but for those that are moved at once.
    """
    if low == FLOAT:
        return 0
    weights = gradients // FLOAT
    return HALF * weights if accumulated else HALF * min(weights, AT_ONCE)


class Peak(NamedTuple):
    """The most bytes, as a size, and where that is."""

    bytes: Size
    at: str


def peak(run: Activations, gradients: GradientBytes, accumulated: bool = False) -> Peak:
    """Return the most bytes beside weights and states at any time of the backward, which frees and fills.

    At each piece: what the pieces before it keep and its own, the gradients of the pieces behind it,
    and either what is there while a checkpoint recomputes it, or that and two of the largest values
    that are on the way back. ``accumulated``: all gradients are there, from the batches before.
    """
    everything = sum(gradients.of(layer) for layer in run.layers)
    kept_before, gradients_so_far = total(p.kept + p.weight_copies for p in run.layers), everything * accumulated
    found = [Peak(kept_before + gradients_so_far + run.logits.peak_bytes(), "losses")]
    for layer in reversed(run.layers):
        on_the_way_back = layer.recomputed + 2 * layer.largest
        recomputing = layer.peak_bytes if layer.recomputed else 0
        most = largest((on_the_way_back, recomputing, gradients.of_shared(layer, run.low)), run.values)
        own = gradients.of(layer)
        found.append(Peak(kept_before + gradients_so_far + most + own * accumulated, layer.path))
        kept_before -= layer.kept + layer.weight_copies
        gradients_so_far += 0 if accumulated else own
    updating = gradients_so_far + update_copies(everything, run.low, accumulated)
    return max([*found, Peak(updating, "update")], key=lambda one: number(one.bytes, run.values))
