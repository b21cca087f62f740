"""The metrics of a run as curves over its steps, and how they are read at a budget."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dsvgraph.backends import BudgetKind
from dsvgraph.errors import DsvError
from dsvgraph.files import opened

ACCURACY = "accuracy."
"""Begins the names of accuracies; held-out losses have the names of the loss."""


class Reading(NamedTuple):
    """A value at a budget. ``exact``: it was measured within half a step of it, else between two measurements."""

    value: float
    exact: bool


@dataclass(frozen=True)
class Curve:
    """What a run has used up after each step 1, 2, ..., and what was measured on held-out data after some.

    ``used`` has the tokens, FLOPs and minutes of training (evaluations and checkpoints excluded) so far;
    ``measured`` the steps and values of each quantity.
    """

    used: Mapping[BudgetKind, np.ndarray]
    measured: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return len(self.used[BudgetKind.TOKENS])

    def step_at(self, kind: BudgetKind, amount: float) -> float:
        """Return the step, with a fraction, after which ``amount`` is used up; at the mean rate where that is ahead.

        Assume that a step was taken.
        """
        used = self.used[kind]
        after = int(np.searchsorted(used, amount))
        if after == len(used):
            return after + float(amount - used[-1]) / self.rate(kind)
        before = used[after - 1] if after else 0.0
        return after + float((amount - before) / (used[after] - before))

    def rate(self, kind: BudgetKind) -> float:
        """Return how much of a budget a step takes, on average."""
        return float(self.used[kind][-1] / self.steps)

    def used_at(self, kind: BudgetKind, step: float) -> float:
        """Return how much is used up after ``step``, which may have a fraction."""
        return float(np.interp(step, np.arange(self.steps + 1), np.concatenate([[0.0], self.used[kind]])))

    def read(self, name: str, step: float) -> Reading | None:
        """Return a measured quantity after ``step``; None where the measurements end before it.

        A measurement within half a step is taken as it is. Else the value lies between the measurements before and
        after, on a straight line over the logarithm of the step.
        """
        if name not in self.measured:
            return None
        steps, values = self.measured[name]
        nearest = int(np.argmin(np.abs(steps - step)))
        if abs(steps[nearest] - step) <= 0.5:
            return Reading(float(values[nearest]), True)
        if not steps[0] < step < steps[-1]:
            return None
        return Reading(float(np.interp(math.log(step), np.log(steps), values)), False)


def curve_of(records: Iterable[Mapping[str, Any]], step_flops: float, starts: Collection[int] = ()) -> Curve:
    """Return the curve of a run from its metrics; ``step_flops`` are the FLOPs of a step, where they do not say them.

    After the steps ``starts`` a process began. Its first step makes ready what the later ones use, and counts as the
    median step where it took longer: else a run that was extended would seem slower.
    """
    records = list(records)
    tokens = np.array([record["tokens"] for record in records], dtype=float)
    flops = np.array([record.get("flops", record["step"] * step_flops) for record in records], dtype=float)
    minutes = _settled(np.array([record["train_seconds"] for record in records], dtype=float), starts) / 60
    used = {BudgetKind.TOKENS: tokens, BudgetKind.FLOPS: flops, BudgetKind.MINUTES: minutes}
    found: dict[str, tuple[list[int], list[float]]] = {}
    for record in records:
        for name, value in _measured(record):
            steps, values = found.setdefault(name, ([], []))
            steps.append(record["step"])
            values.append(value)
    return Curve(used, {name: (np.array(steps), np.array(values)) for name, (steps, values) in found.items()})


def _settled(seconds: np.ndarray, starts: Collection[int]) -> np.ndarray:
    """Return the seconds so far, with the first step of each process no longer than the median step."""
    took = np.diff(seconds, prepend=0.0)
    first = [step for step in starts if step < len(took)]
    if first:
        took[first] = np.minimum(took[first], np.median(took))
    settled: np.ndarray = np.cumsum(took)
    return settled


def _measured(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield what one line of the metrics says of held-out data."""
    yield from record.get("heldout", {}).items()
    yield from ((f"{ACCURACY}{name}", value) for name, value in record.get("accuracy", {}).items())


def records_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, less an unfinished last one; none where there is no file.

    Raise DsvError if a line is damaged.
    """
    try:
        with opened(path) as file:
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DsvError(f"cannot read {path}: {error.strerror or error}") from error
    return [_record(line, path, number) for number, line in enumerate(lines, 1)]


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if record["step"] != number:
            raise ValueError(f"it is of step {record['step']}")
        if lacking := [name for name in ("tokens", "train_seconds") if name not in record]:
            raise ValueError(f"it has no {lacking[0]}")
    except (ValueError, KeyError, TypeError) as error:
        raise DsvError(f"{path}:{number} is damaged: {error}") from error
    return dict(record)
