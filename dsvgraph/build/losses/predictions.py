"""Which tokens the losses of a model predict, and which between them nobody does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from dsvgraph.build.horizons import slices
from dsvgraph.build.losses.formulas import number
from dsvgraph.graph import Loss, Model, Ref
from dsvgraph.types import Horizons


@dataclass(frozen=True)
class Prediction:
    """At position i a head says token i + ``ahead`` and has seen tokens up to i + ``horizon``."""

    loss: Loss
    depth: int
    horizon: float
    ahead: int

    def __str__(self) -> str:
        which = f"depth {self.depth} of `{self.loss.name}`" if self.depth else f"`{self.loss.name}`"
        has_seen = f"has seen tokens up to {at(int(self.horizon))} and " if math.isfinite(self.horizon) else ""
        return f"{which} {has_seen}predicts {at(self.ahead)}"


@dataclass(frozen=True)
class Gap:
    """Tokens i + ``first`` to i + ``last`` that nobody predicts, though ``prediction`` speaks of one behind them."""

    prediction: Prediction
    first: int
    last: int

    def __str__(self) -> str:
        more = f" to {at(self.last)}" if self.last > self.first else ""
        return f"{self.prediction}; nothing predicts {at(self.first)}{more}"


def at(ahead: int) -> str:
    """Return a token by its place: i, i + 2, i - 1."""
    return f"i {'+' if ahead > 0 else '-'} {abs(ahead)}" if ahead else "i"


def seen(model: Model, ref: Ref, depth: int) -> Horizons:
    """Return what an output has seen, or, where it is stacked, what its piece of ``depth`` has."""
    pieces = slices(model, ref)
    return pieces[depth - 1] if 0 < depth <= len(pieces) else model.horizons_of(ref)


def predictions(model: Model, losses: Iterable[Loss]) -> dict[str, list[Prediction]]:
    """Per target what is predicted of it, the nearest token first; without targets of which a shift is open."""
    found: dict[str, list[Prediction]] = {}
    unknown = set()
    for loss in losses:
        if loss.output is None or loss.target is None or loss.shift is None:
            continue
        for depth in loss.depths:
            ahead = number(loss.shift, depth=depth)
            unknown |= set() if isinstance(ahead, int) else {loss.target}
            horizon = seen(model, model.outputs[loss.output], depth).ahead(loss.target)
            found.setdefault(loss.target, []).append(Prediction(loss, depth, horizon, ahead))
    return {name: sorted(heads, key=lambda h: h.ahead) for name, heads in found.items() if name not in unknown}


def gaps(heads: list[Prediction]) -> Iterator[Gap]:
    """Yield what is left out before the nearest prediction, and between each and the next, once each."""
    tokens = sorted({head.ahead for head in heads})
    for head in heads:
        if head.horizon + 1 < tokens[0] and math.isfinite(head.horizon):
            yield Gap(head, int(head.horizon) + 1, tokens[0] - 1)
            break
    for before, token in pairwise(tokens):
        if token - before > 1:
            yield Gap(next(head for head in heads if head.ahead == token), before + 1, token - 1)


def stride(head: Prediction, heads: list[Prediction]) -> float:
    """Return how far a prediction lies behind the one before it, or, for the nearest, behind what it has seen."""
    before = [other.ahead for other in heads if other.ahead < head.ahead]
    return head.ahead - max(before, default=head.horizon if math.isfinite(head.horizon) else 0)
