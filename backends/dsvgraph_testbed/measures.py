"""What is measured of a variant, under one name for all variants: the token that is predicted, not the loss's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsvgraph.build.losses.formulas import number
from dsvgraph.expr import to_text
from dsvgraph.graph import Loss, LossKind, Model
from dsvgraph.passes.compare.variants import main_loss
from dsvgraph_testbed.curves import ACCURACY, Curve

NEXT = "next token"
ACCURACIES = {
    "free_running": ("accuracy", True),
    "teacher_forced": ("accuracy, teacher-forced", False),
    "answer_tokens": ("accuracy of the answer's tokens", False),
}
"""Names of the shares of right answers in the metrics: their labels, and whether they answer the question."""

PLAIN = {"divide": "valid", "against": None, "smoothing": 0, "temperature": 1, "beta": 1, "window": 1, "decay": 1,
         "vocabulary": None}  # fmt: skip
"""What a loss says where it is the mean of a plain score over the targets."""


@dataclass(frozen=True)
class Measure:
    """A quantity that variants are compared by. ``main`` ones answer the question, the others tell more of it."""

    label: str
    main: bool = False
    higher_is_better: bool = False


def losses_of(model: Model, whole_rows: bool = True) -> dict[Measure, str]:
    """Return the held-out losses of a model and their names in the metrics, that of the next token first.

    Those that are computed alike and say the same token are the same measure in all variants. ``whole_rows``: every
    position has a next token to predict, so that a sum over B * T is the mean.
    """
    main = main_loss(model)
    found = {Measure(f"{NEXT}{_ways(main, whole_rows and _ahead(main) == 1)}", main=True): main.names[0]}
    for loss in model.losses:
        if loss.output is not None:
            for label, name in zip(_labels(loss), loss.names, strict=True):
                if name not in found.values():
                    found.setdefault(Measure(label), name)
    return found


def _labels(loss: Loss) -> list[str]:
    """Return which token each value of a loss says, and how it is computed where that is not plain cross entropy."""
    kind = "" if loss.kind is LossKind.CROSS_ENTROPY else f"{loss.kind.replace('_', ' ')} of "
    if loss.shift is None or loss.end_to_end:
        return [f"{kind}{name}{_ways(loss)}" for name in loss.names]
    return [f"{kind}token i + {number(loss.shift, depth=depth)}{_ways(loss)}" for depth in loss.depths]


def _ahead(loss: Loss) -> Any:
    """Return how far ahead the first value of a loss looks, or None where that has no meaning for its kind."""
    return None if loss.shift is None else number(loss.shift, depth=loss.depths[0])


def _ways(loss: Loss, whole_rows: bool = False) -> str:
    """Return in what a loss is not the plain mean over targets: losses are only comparable where this is the same.

    ``whole_rows``: all positions have a target.
    """
    divisor = to_text(loss.divide).strip("()") if loss.divide is not None else PLAIN["divide"]
    divisor = PLAIN["divide"] if whole_rows and divisor in ("B * T", "T * B") else divisor
    given = {name: getattr(loss, name) for name in PLAIN if name != "divide"} | {"divide": divisor}
    words = [f"{name} {value}" for name, value in given.items() if value != PLAIN[name]]
    return f" ({', '.join(words)})" if words else ""


def accuracies_of(model: Model, curve: Curve) -> dict[Measure, str]:
    """Return the shares of exact answers that a run measured and their names in the metrics; none without a task."""
    main = main_loss(model)
    names = {way: f"{ACCURACY}{main.names[0]}.{way}" for way in ACCURACIES}
    return {
        Measure(label, main=first, higher_is_better=True): names[way]
        for way, (label, first) in ACCURACIES.items()
        if names[way] in curve.measured
    }


def measured(model: Model, curves: Mapping[int, Curve], whole_rows: bool = True) -> dict[Measure, str]:
    """Return all that can be compared of a model, given the curves of its runs by seed."""
    found = losses_of(model, whole_rows)
    for curve in curves.values():
        found |= accuracies_of(model, curve)
    return found
