"""Memory of a training step or of inference: weights, gradients, optimiser states, activations, cache, peak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dsvgraph.dims import Size, total
from dsvgraph.graph import Model
from dsvgraph.ops.tape import FLOAT, HALF
from dsvgraph.passes.count.quantity import Quantity, largest, number
from dsvgraph.passes.count.tally import Meter, input_sizes, tokens
from dsvgraph.passes.estimate.activations import Activations, Piece

Dtype = Literal["float32", "bfloat16", "float8"]
WIDTH: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float8": 1}
STATES = 2  # AdamW keeps two numbers of each trained weight


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one training step on one device, as the compiled module takes them.

    Weights, gradients and AdamW's states are float32; under bfloat16 (autocast) products read
    copies in 16 bits. ``peak`` is the most at any time.
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


class Steps(NamedTuple):
    """A step's activations, as they are and where every layer keeps its inputs alone."""

    plain: Activations
    checkpointed: Activations


def steps(model: Model, batch: int, seq: int, dtype: Dtype, fused: bool = True) -> Steps:
    """Runs a model for its memory, both ways."""
    values, low = input_sizes(model, batch, seq), HALF if dtype == "bfloat16" else FLOAT
    return Steps(*(Activations(model, values, low, fused, again) for again in (False, True)))


def training(model: Model, batch: int, seq: int, trained: int, dtype: Dtype = "bfloat16", fused: bool = True,
             owned: int = 0, runs: Steps | None = None) -> TrainingMemory:  # fmt: skip
    """Memory of one step on ``batch`` rows of ``seq`` tokens; ``owned`` weights, ``trained`` by gradients.

    ``fused`` counts with the kernels of a GPU; without it with those of a CPU.
    """
    values = input_sizes(model, batch, seq)
    runs = runs or steps(model, batch, seq, dtype, fused)
    grads = _Gradients(model, values, trained)
    logits = runs[0].logits
    kept = [total(p.kept for p in run.pieces) for run in runs]
    static = FLOAT * (owned + STATES * trained)
    peaks = [peak(run, grads) for run in runs]
    most = [static + found.bytes for found in peaks]
    copies = total(p.copied for p in runs[0].pieces)

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
    weights: int, per_token: float, per_row: float, dtype: Dtype, held: Size, rows: Size, context: Size,
    values: Mapping[str, int],
) -> InferenceMemory:  # fmt: skip
    """Memory of inference with ``weights`` weights and so many cached numbers per token, and per row of any length.

    ``held``: bytes of the cache that windows leave, of ``rows`` of ``context`` tokens. A cache of a model in 8 bits
    stays in 16.
    """
    width, wide = WIDTH[dtype], max(WIDTH[dtype], HALF)
    cache, own = round(per_token * wide), weights * width
    kept, whole = int(number(held, values)), (cache * context + round(per_row * wide)) * rows
    return InferenceMemory(
        weights=Quantity(own, f"{width}*{weights}"),
        cache_per_token=Quantity(cache, f"{wide}*{per_token}"),
        cache=Quantity(kept, str(held)),
        cache_without_windows=Quantity.of(whole, values).whole(),
        total=Quantity(own + kept, str(own + held)),
    )


class _Gradients:
    """Bytes of the gradients that the backward of a piece leaves."""

    def __init__(self, model: Model, values: Mapping[str, int], trained: int) -> None:
        self.model, self.meter, self.values = model, Meter(tokens(model), values), values
        whole = self.meter.of(model)
        by_op = int(number(whole.parameters - whole.untrained, values))
        self.share = trained / by_op if by_op else 0.0  # what the spec does not freeze

    def of(self, piece: Piece) -> int:
        """Those of its own weights; copies with one set of weights have a share each."""
        if piece.graph is None:
            owned: Size = total(w.numel for w in piece.node.weights.values() if w.trained)
        else:
            tally = self.meter.of(piece.graph)
            owned = tally.parameters - tally.untrained
        uses = float(number(piece.node.count, self.values)) if piece.node.reused else 1
        return round(FLOAT * self.share * float(number(owned, self.values)) / uses)

    def of_shared(self, piece: Piece, low: int) -> int:
        """Those of weights that are used elsewhere too: what came from there and one to be added to it.

        In float32 the one of a product is a view, so that the sum is a third.
        """
        names = {use.port for use in self.model.uses.get(piece.node.name, ())}
        found = total(w.numel for name, w in piece.node.weights.items() if name in names and w.trained)
        return round((3 if low == FLOAT else 2) * FLOAT * self.share * float(number(found, self.values)))


class Peak(NamedTuple):
    """The most bytes, as a size, and where that is."""

    bytes: Size
    at: str


def peak(run: Activations, grads: _Gradients) -> Peak:
    """The most bytes beside weights and states at any time of the backward, which frees and fills.

    At each piece: what the pieces before it keep and its own, the gradients of the pieces behind it,
    and either what is there while a checkpoint makes it anew, or that and two of the largest values
    that are on the way back.
    """
    left, done = total(p.kept + p.copied for p in run.pieces), 0
    found = [Peak(left + run.logits.busy(), "losses")]
    for piece in reversed(run.pieces):
        back, remade = piece.again + 2 * piece.largest, piece.busy if piece.again else 0
        most = largest((back, remade, grads.of_shared(piece, run.low)), run.values)
        found.append(Peak(left + done + most, piece.path))
        left, done = left - piece.kept - piece.copied, done + grads.of(piece)
    return max([*found, Peak(done, "update")], key=lambda one: number(one.bytes, run.values))
