"""Many settings of one spec: each combination is built, checked and counted, in parallel processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

from dsvgraph.build import BuildCache, build
from dsvgraph.dims import Size, ratio, total
from dsvgraph.errors import DsvError
from dsvgraph.expr import Expr, evaluate, parse
from dsvgraph.graph import Model
from dsvgraph.ops.tape import HALF
from dsvgraph.passes.count.gradients import Backward
from dsvgraph.passes.count.graph_counts import GraphCounter
from dsvgraph.passes.count.inputs import input_sizes, tokens
from dsvgraph.passes.count.quantity import number
from dsvgraph.passes.graph.decoding import CacheCounter
from dsvgraph.passes.graph.output_layer import output_layer_size
from dsvgraph.spec import Spec, with_settings
from dsvgraph.types import AttentionPairs

COUNTS: Mapping[str, str] = {
    "total": "weight",
    "inference": "weight",
    "active": "weight",
    "active_without_embedding": "weight",
    "active_without_embedding_and_head": "weight",
    "inference_flops": "FLOP/token",
    "train_flops": "FLOP/token",
    "cache": "byte/token",
}
"""Quantities of a point, as `cost` counts them, with their units."""
MEMORY: Mapping[str, str] = {"activations": "byte", "peak": "byte", "peak_checkpointed": "byte"}
"""Those of a training step in bfloat16, as `cost --phase train` counts them: they take longer than all others."""
UNITS: Mapping[str, str] = {**COUNTS, **MEMORY}
LIMIT = 200_000  # combinations
CHUNK_SIZE = 128  # combinations that a process takes at once, at most: the more, the more blocks they have in common
SHARES = 4  # of a process, at least, so that none waits long for the last
ALONE = 64  # so few are not worth a second process
TASKS = 4  # chunks after which a process looks for what nobody holds any more
Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Point:
    """One combination: its settings, and its quantities or why it does not check."""

    settings: Mapping[str, Any]
    quantities: Mapping[str, float]
    error: str = ""

    def get(self, name: str) -> Any:
        """Return a setting or a quantity; None where the point has none."""
        return self.settings.get(name, self.quantities.get(name))


def sweep(
    spec: Spec | Model,
    grid: Grid,
    batch: int = 1,
    seq: int = 4096,
    attention: str = AttentionPairs.CAUSAL,
    quantities: Iterable[str] = COUNTS,
    processes: int | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> list[Point]:
    """Return every combination of ``grid``, in order, counted on ``batch`` rows of ``seq`` tokens.

    ``spec`` may be a model that was made from one. ``quantities`` are the quantities to count; ``progress`` is called
    with the number of combinations that are done.
    Raise DsvError if the spec has no such config value, or if there are more than 200,000 combinations.

    >>> import dsvgraph
    >>> points = sweep(dsvgraph.load("deepseek_v3_tiny"), {"num_hidden_layers": [2, 3]}, quantities=["total"])
    >>> [point.get("total") for point in points]
    [1745200, 2216608]
    """
    spec = _spec_of(spec) if isinstance(spec, Model) else spec
    count = prod(len(values) for values in grid.values())
    if count > LIMIT:
        raise DsvError(f"the grid has {count:,} combinations, at most {LIMIT:,} are counted")
    with_settings(spec, {name: values[0] for name, values in grid.items()})
    counting = _Counting(spec=spec, batch=batch, seq=seq, attention=attention, quantities=frozenset(quantities))
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    workers = 1 if count <= ALONE else processes or _cores()
    size = min(CHUNK_SIZE, count // (SHARES * workers)) or 1
    found: list[Point] = []
    for points in _mapped(counting, _chunks(combinations, size), workers):
        found += points
        progress(len(found))
    return found


def _spec_of(model: Model) -> Spec:
    if model.spec is None:
        raise DsvError(f"`{model.name}` was not made from a spec, so there is nothing to set")
    return model.spec


@dataclass(frozen=True)
class _Counting:
    """How a combination is counted."""

    spec: Spec
    batch: int
    seq: int
    attention: str
    quantities: frozenset[str]

    def points(self, chunk: Iterable[Mapping[str, Any]]) -> list[Point]:
        """Return the combinations of a chunk: blocks that they have in common are built and counted once."""
        build_cache, counters = BuildCache(), _Counters(self.batch, self.seq, self.attention)
        return [self._point(settings, build_cache, counters) for settings in chunk]

    def _point(self, settings: Mapping[str, Any], build_cache: BuildCache, counters: _Counters) -> Point:
        try:
            model = build(with_settings(self.spec, settings), build_cache)
            return Point(settings, _quantities(model, counters, self.quantities))
        except DsvError as error:
            return Point(settings, {}, error.diagnostics[0].message)


class _Counters:
    """Counters of models; models with equal inputs share one, and what it remembers."""

    def __init__(self, batch: int, seq: int, attention: str) -> None:
        self.batch, self.seq, self.attention = batch, seq, attention
        self.found: dict[Any, Backward] = {}

    def of(self, model: Model) -> Backward:
        """Return what counts the backward pass of a model, and within it what counts its graphs."""
        size, values = tokens(model), input_sizes(model, self.batch, self.seq)
        key = size, *values.items()
        if key not in self.found:
            self.found[key] = Backward(GraphCounter(size, values, self.attention))
        return self.found[key]


def _quantities(model: Model, counters: _Counters, quantities: Container[str]) -> dict[str, float]:
    """Return ``quantities`` of a model, equal to those of `cost` by the names there."""
    backward = counters.of(model)
    counter = backward.counter
    every, kept = counter.of(model), counter.of(model, frozenset([next(iter(model.outputs))]))
    outside = kept.active - kept.embedding
    sizes: dict[str, Callable[[], Size]] = {
        "total": lambda: every.parameters,
        "inference": lambda: kept.parameters,
        "active": lambda: kept.active,
        "active_without_embedding": lambda: outside,
        "active_without_embedding_and_head": lambda: outside - output_layer_size(model),
        "inference_flops": lambda: ratio(kept.forward, counter.tokens),
        "train_flops": lambda: ratio(every.forward + total(backward.of(model).values()), counter.tokens),
        "cache": lambda: ratio(CacheCounter(model, counter.values).of_model().growing, counter.tokens) * HALF,
    }
    found = {name: number(size(), counter.values) for name, size in sizes.items() if name in quantities}
    asked = [name for name in MEMORY if name in quantities]
    return found | (_memory(model, counters, asked) if asked else {})


def _memory(model: Model, counters: _Counters, quantities: Iterable[str]) -> dict[str, float]:
    from dsvgraph.passes.estimate import PlanOptions, plan

    memory = plan(model, PlanOptions(batch=counters.batch, seq=counters.seq)).memory
    return {name: getattr(memory, name).value for name in quantities}


# -- processes ----------------------------------------------------------------------------------


def _chunks(combinations: Sequence[Mapping[str, Any]], size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    return (combinations[at : at + size] for at in range(0, len(combinations), size))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mapped(counting: _Counting, chunks: Iterable[Sequence[Mapping[str, Any]]], workers: int) -> Iterator[list[Point]]:
    """Yield the points of each chunk, in order."""
    if workers <= 1:
        yield from (counting.points(chunk) for chunk in chunks)
        return
    forks = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if forks else None)
    with ProcessPoolExecutor(workers, context, _start_worker, (counting,)) as pool:
        try:
            yield from pool.map(_points, chunks)
        except BrokenProcessPool:
            hint = "a system does that where memory runs short: sweep fewer values, or one after another"
            raise DsvError("one of the processes that count was ended from outside", hint=hint) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(counting: _Counting) -> None:
    """What a process keeps for all its chunks; Ctrl-C is for the one that started it."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.disable()  # collecting garbage each time would take a sixth of the time
    _worker = _WorkerState(counting)


@dataclass
class _WorkerState:
    counting: _Counting
    chunks: int = 0


_worker: _WorkerState | None = None


def _points(chunk: Sequence[Mapping[str, Any]]) -> list[Point]:
    assert _worker is not None
    _worker.chunks += 1
    if _worker.chunks % TASKS == 0:
        gc.collect()
    return _worker.counting.points(chunk)


# -- choosing -----------------------------------------------------------------------------------


class Condition:
    """An expression over settings, config values and quantities, in the language of specs."""

    def __init__(self, text: str, spec: Spec, grid: Grid) -> None:
        """Raise DsvError if it is no expression or asks for a name that nothing has."""
        try:
            self.tree: Expr = parse(text)
        except ValueError as error:
            raise DsvError(f"`{text}`: {error}") from None
        self.text, self.config = text, {name: entry.value for name, entry in spec.config.items()}
        unknown = sorted(self.tree.names() - {*UNITS, *grid, *self.config})
        if unknown:
            raise DsvError(f"`{text}`: there is no `{unknown[0]}`", hint=f"quantities are {', '.join(UNITS)}")

    def holds(self, point: Point) -> bool:
        """Return whether it is true of a point. Raise DsvError if it has no value."""
        try:
            return bool(evaluate(self.tree, lambda name: self._value(point, name)))
        except (ValueError, ArithmeticError, TypeError) as error:
            raise DsvError(f"`{self.text}` cannot be decided: {error}") from None

    def decided(self, points: Sequence[Point]) -> list[Point]:
        """Return the points, with an error where the condition has no value. Raise DsvError if it never has."""
        found = [self._decided(point) for point in points]
        undecided = [after for before, after in zip(points, found, strict=True) if after is not before]
        if undecided and all(point.error for point in found):
            raise DsvError(undecided[0].error)
        return found

    def _decided(self, point: Point) -> Point:
        try:
            if not point.error:
                self.holds(point)
        except DsvError as error:
            return replace(point, error=error.diagnostics[0].message)
        return point

    def _value(self, point: Point, name: str) -> Any:
        found = point.get(name)
        return self.config.get(name) if found is None else found


def pareto_front(points: Iterable[Point], x: str, y: str, less: tuple[bool, bool] = (True, False)) -> list[Point]:
    """Return the points that no other beats in both ``x`` and ``y``; ``less`` says of each whether less is better.

    They are in order of ``x``; of equal points all are kept.

    >>> points = [Point({"n": n}, {"active": active, "total": 8}) for n, active in enumerate((5, 3, 4))]
    >>> [point.settings["n"] for point in pareto_front(points, "active", "total")]
    [1]
    """
    signs = [1 if is_less else -1 for is_less in less]
    known = [p for p in points if _is_number(p.get(x)) and _is_number(p.get(y))]
    ordered = sorted(known, key=lambda p: (signs[0] * p.get(x), signs[1] * p.get(y)))
    found: list[Point] = []
    for point in ordered:
        if not found or signs[1] * point.get(y) < signs[1] * found[-1].get(y) or _same(point, found[-1], x, y):
            found.append(point)
    return found


def _same(a: Point, b: Point, x: str, y: str) -> bool:
    return bool(a.get(x) == b.get(x) and a.get(y) == b.get(y))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
