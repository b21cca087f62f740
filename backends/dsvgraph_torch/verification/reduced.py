"""A spec of the same structure in sizes that run on a CPU."""

from __future__ import annotations

from dsvgraph.build import build
from dsvgraph.dims import names
from dsvgraph.errors import DsvError
from dsvgraph.graph import Model, walk
from dsvgraph.passes.count.generic import generic_model, integer_config, repeat_names
from dsvgraph.spec import with_settings

MOST = 128  # times smaller
LEAST = 8  # what a size is not made smaller than


def twin(model: Model) -> tuple[Model, dict[str, int]]:
    """``model`` with smaller numbers in its config, and these numbers.

    Sizes are divided by powers of two. What layers are counted by stays, so that the twin has the
    same lines; where a size makes the spec wrong, the sizes that the error names are divided by less.
    """
    assert model.spec is not None
    named = generic_model(model)
    over = {n: _divisor(v) for n, v in integer_config(model).items() if named is None or n in _sizes(named)}
    over = {n: d for n, d in over.items() if d > 1}
    while over:
        changed = {n: model.config[n] // d for n, d in over.items()}
        try:
            found = build(with_settings(model.spec, changed))
        except DsvError as error:
            over = _less(over, error)
            continue
        if _lines(found) == _lines(model):
            return found, changed
        over = _less(over)
    return model, {}


def _sizes(named: Model) -> set[str]:
    """The names that weights are large by, but for those that layers are counted by."""
    shapes = [size for visit in walk(named) for w in visit.node.weights.values() for size in w.shape]
    return set[str]().union(*map(names, shapes)) - repeat_names(named)


def _divisor(value: int) -> int:
    """The largest power of two that divides a size and leaves something of it."""
    divisor = 1
    while divisor < MOST and value % (2 * divisor) == 0 and value // (2 * divisor) >= LEAST:
        divisor *= 2
    return divisor


def _less(over: dict[str, int], error: DsvError | None = None) -> dict[str, int]:
    """Return the divisors with those halved whose names the error or its line depends on, or else all."""
    named = {name for d in error.diagnostics for name in d.names | d.reads} if error else set()
    blamed = over.keys() & named or over.keys()
    halved = {n: d // 2 if n in blamed else d for n, d in over.items()}
    return {n: d for n, d in halved.items() if d > 1}


def _lines(model: Model) -> list[tuple[str, str, int]]:
    """What a model is made of, without its sizes."""
    return [(v.node.name, v.node.callee, len(v.node.copies)) for v in walk(model)]
