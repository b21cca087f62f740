"""What is measured of a variant, under one name for all variants: the token that is predicted, not the loss's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dsvgraph.build.losses.formulas import number
from dsvgraph.graph import Loss, LossKind, Model
from dsvgraph.passes.compare.variants import main_loss
from dsvgraph_testbed.curves import ACCURACY, Curve

NEXT = "next token"
EXACT = "accuracy"


@dataclass(frozen=True)
class Measure:
    """A quantity that variants are compared by. ``main`` ones answer the question, the others tell more of it."""

    label: str
    main: bool = False
    higher_is_better: bool = False
    unit: str = "nats"


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


def accuracy_of(model: Model, curve: Curve) -> str | None:
    """Return the name of the accuracy of exact answers in the metrics of a run, or None where its task has none."""
    main = main_loss(model)
    names = (f"{ACCURACY}{name}" for name in (main.output, _name(main, main.depths[0])))
    return next((name for name in names if name in curve.measured), None)


def measured(model: Model, curves: Mapping[int, Curve]) -> dict[Measure, str]:
    """Return all that can be compared of a model, given the curves of its runs by seed."""
    names = {accuracy_of(model, curve) for curve in curves.values()} - {None}
    exact = {Measure(EXACT, main=True, higher_is_better=True, unit=""): str(name) for name in names}
    return {**losses_of(model), **exact}


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
