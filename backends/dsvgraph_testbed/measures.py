"""What is measured of a variant, under one name for all variants: the token that is predicted, not the loss's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dsvgraph.build.losses.formulas import number
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


@dataclass(frozen=True)
class Measure:
    """A quantity that variants are compared by. ``main`` ones answer the question, the others tell more of it."""

    label: str
    main: bool = False
    higher_is_better: bool = False


def losses_of(model: Model) -> dict[Measure, str]:
    """Return the held-out losses of a model and their names in the metrics, that of the next token first.

    Those of one kind that predict the same token are the same measure in all variants.
    """
    main = main_loss(model)
    found = {Measure(NEXT, main=True): _name(main, main.depths[0])}
    for loss, depth in _scored(model):
        if _name(loss, depth) not in found.values():
            found.setdefault(Measure(_label(loss, depth)), _name(loss, depth))
    return found


def accuracies_of(model: Model, curve: Curve) -> dict[Measure, str]:
    """Return the shares of exact answers that a run measured and their names in the metrics; none without a task."""
    main = main_loss(model)
    output = _name(main, main.depths[0])
    names = {way: f"{ACCURACY}{output}.{way}" for way in ACCURACIES}
    return {
        Measure(label, main=first, higher_is_better=True): names[way]
        for way, (label, first) in ACCURACIES.items()
        if names[way] in curve.measured
    }


def measured(model: Model, curves: Mapping[int, Curve]) -> dict[Measure, str]:
    """Return all that can be compared of a model, given the curves of its runs by seed."""
    found = losses_of(model)
    for curve in curves.values():
        found |= accuracies_of(model, curve)
    return found


def _scored(model: Model) -> Iterator[tuple[Loss, int]]:
    for loss in model.losses:
        if loss.output is not None:
            yield from ((loss, depth) for depth in loss.depths)


def _name(loss: Loss, depth: int) -> str:
    return f"{loss.name}.{depth}" if depth else loss.name


def _label(loss: Loss, depth: int) -> str:
    """Return which token a loss says, and by which kind of loss where that is not cross entropy."""
    ahead = number(loss.shift, depth=depth) if loss.shift is not None else None
    if not isinstance(ahead, int):
        return _name(loss, depth)
    kind = "" if loss.kind is LossKind.CROSS_ENTROPY else f"{loss.kind.replace('_', ' ')} of "
    return f"{kind}token i + {ahead}"
