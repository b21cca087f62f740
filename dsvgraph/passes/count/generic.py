"""Counts as formulas: the model once more, with config names left in place of their numbers."""

from __future__ import annotations

from dataclasses import replace

from dsvgraph.build import build
from dsvgraph.dims import names
from dsvgraph.errors import DsvError
from dsvgraph.graph import Mode, Model, walk
from dsvgraph.spec import with_settings

TRIES = 8  # each names what cannot stay symbolic


def numeric_model(model: Model) -> Model:
    """Return ``model`` with no size left as a name that its config gives a number."""
    if model.spec is None or not model.spec.symbolic:
        return model
    return build(with_settings(model.spec, {}))


def integer_config(model: Model) -> dict[str, int]:
    """Return the config values that are whole numbers."""
    return {n: v for n, v in model.config.items() if isinstance(v, int) and not isinstance(v, bool)}


def generic_model(model: Model) -> Model | None:
    """``model`` with every whole number of its config left as a name, as far as its lines allow.

    A name stays a number where a line needs one (an angle, a list that cycles by layer), or
    where a shape rule holds for this number only. None where the model cannot be built so.
    """
    if model.spec is None:
        return None
    spec = replace(with_settings(model.spec, {}), loss={}, init={}, trained={})
    left = set(integer_config(model))
    for _ in range(TRIES):
        try:
            return build(replace(spec, symbolic=frozenset(left)))
        except DsvError as error:
            guilty = set[str]().union(*(left & d.names or left & d.reads for d in error.diagnostics))
        if not guilty:
            return None
        left -= guilty
    return None


def repeat_names(model: Model) -> set[str]:
    """Return the config names that layers are counted by (the counts of `repeat`)."""
    counts = [v.node.count for v in walk(model) if v.node.mode is Mode.REPEAT]
    return set[str]().union(*(names(c) for c in counts)) & model.config.keys()
