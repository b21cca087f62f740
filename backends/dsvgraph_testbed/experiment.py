"""A comparison under way: which runs it needs, which of them are trained, what is trained next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dsvgraph
from dsvgraph.backends import BudgetKind, Comparison, Variant
from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic, write_errors
from dsvgraph_testbed.curves import Curve
from dsvgraph_testbed.identity import data_digest, digest_of, run_identity
from dsvgraph_testbed.planning import PROBE, OneRunEach, OneRunPerBudget, steps_of
from dsvgraph_testbed.runs import PlannedRun, Stop

BATCH, SEQ = 16, 128
"""Rows and tokens of a batch, where the options do not say them."""

WARMUP_SHARE, EVALUATIONS = 20, 20
"""A run warms up for this part of the first variant's steps, and is measured so often until then."""

SAVED = 5
"""A run is saved after so many evaluations."""


@dataclass(frozen=True)
class Task:
    """A run, the step to train it to, and the steps on the way after which it has to be measured."""

    run: PlannedRun
    steps: int
    at: tuple[int, ...]


class Experiment:
    """The runs of a comparison and what is known of them. A run is read again when its process has ended."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        schedule = "cosine" if comparison.anneal else "constant"
        rows = {"batch": BATCH} if "task" in comparison.training else {"batch": BATCH, "seq": SEQ}
        self.training: dict[str, Any] = {**rows, "schedule": schedule, **comparison.training}
        self.data = data_digest(self.training)
        self.curves: dict[PlannedRun, Curve] = {}
        self.stops: dict[PlannedRun, Stop] = {}
        self._seen: set[PlannedRun] = set()
        self._strategy: OneRunEach | OneRunPerBudget | None = None

    # -- runs -----------------------------------------------------------------------------------

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step; 0 while the length of rows, which a task chooses, is not known."""
        return int(self.training["batch"] * self.training.get("seq", 0) * self.training.get("accumulate", 1))

    @cached_property
    def step_flops(self) -> dict[str, float]:
        """The FLOPs of a step of each variant by the count of the graph, by name."""
        batch, seq, times = self.training["batch"], self.training.get("seq", 1), self.training.get("accumulate", 1)
        models = {variant.name: variant.model for variant in self.comparison.variants}
        return {n: dsvgraph.cost(m, batch, seq, formulas=False).flops.train * times for n, m in models.items()}

    @cached_property
    def specs(self) -> dict[str, Path]:
        """The file with the resolved spec of each variant, by name; equal texts are one file."""
        texts = {variant.name: dsvgraph.show(variant.model) for variant in self.comparison.variants}
        folder = self.comparison.folder / "specs"
        found = {name: folder / f"{digest_of(text.encode())}.yaml" for name, text in texts.items()}
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, path in found.items():
            write_atomic(path, texts[name], in_place=True)
        return found

    def make(self, variant: Variant, seed: int, length: int | None, steps: int) -> PlannedRun:
        """Return the run of a variant with a seed; ``steps`` are about those of the first variant."""
        options = {"warmup": max(1, steps // WARMUP_SHARE), **self.training}
        spec = self.specs[variant.name]
        ends = {"length": length} if length else {}
        every = max(1, (length or steps) // EVALUATIONS)
        identity = run_identity(spec.stem, {**options, **ends, "seed": seed}, self.data)
        return PlannedRun(
            variant=variant,
            seed=seed,
            spec=spec,
            folder=self.comparison.folder / "runs" / identity,
            options=options,
            evaluations={"eval_every": every, "save_every": every * SAVED},
            step_tokens=self.step_tokens,
            step_flops=self.step_flops[variant.name],
            length=length,
        )

    @cached_property
    def pilot(self) -> PlannedRun:
        """A short run of the first variant, from which the steps of a budget of time are known, and a task's rows."""
        return self.make(self.comparison.variants[0], self.comparison.seeds[0], PROBE, PROBE)

    def _learn_rows(self) -> None:
        """Take the length of rows from the pilot run, if it has begun."""
        if self._look(self.pilot) is not None:
            self.training["seq"] = int(self.pilot.about()["options"]["seq"])
            del self.pilot, self.step_flops

    @property
    def strategy(self) -> OneRunEach | OneRunPerBudget | None:
        """How runs are trained and read; None while the pilot run has to be trained first."""
        if self._strategy is None and (steps := self._steps()) is not None:
            c = self.comparison

            def make(variant: Variant, seed: int, length: int | None) -> PlannedRun:
                return self.make(variant, seed, length, steps)

            each = OneRunEach(c.variants, c.seeds, c.budget, make)
            self._strategy = OneRunPerBudget(c.variants, c.seeds, c.budget, make, steps) if c.anneal else each
        return self._strategy

    def _steps(self) -> int | None:
        """Return how many steps the first variant takes, about as many where its budget is time."""
        budget = self.comparison.budget
        if "seq" not in self.training:
            self._learn_rows()
        if "seq" not in self.training:
            return None
        if (steps := steps_of(budget, self.pilot)) is not None:
            return steps
        if budget.kind is BudgetKind.FLOPS:
            if self.comparison.anneal:
                words = (
                    f"the steps of `{self.pilot.variant.name}` leave out losses that weigh nothing, and differ in FLOPs"
                )
                raise DsvError(f"--anneal: {words}", hint="give the budget in tokens")
            return max(1, round(budget.amount / self.pilot.step_flops))
        curve = self._look(self.pilot)
        if curve is None or curve.steps < PROBE:
            return None
        return max(1, round(budget.amount / curve.rate(BudgetKind.MINUTES)))

    # -- what is known, and what is next --------------------------------------------------------

    def amounts(self) -> dict[BudgetKind, float]:
        """Return the three budgets, as far as they are known."""
        return self.strategy.amounts(self.curves, self.stops) if self.strategy else {}

    def runs(self) -> list[PlannedRun]:
        """Return the runs that are needed, as far as they are known; the pilot alone before the others."""
        if self.strategy is None:
            return [self.pilot]
        self.amounts()  # lengths follow from it
        return self.strategy.runs(self.curves)

    def tasks(self) -> list[Task]:
        """Return what is to be trained further: runs that have not begun, then those to be extended, seed by seed."""
        return sorted(self._tasks(), key=lambda task: task.run in self.curves)

    def _tasks(self) -> Iterator[Task]:
        for run in self.runs():
            self._look(run)
        amounts = self.amounts()
        for run in self.runs():
            curve = self._look(run)
            done = curve.steps if curve else 0
            ends = self.strategy.ends(run, curve, amounts) if self.strategy else [PROBE]
            ahead = [step for step in ends if step > done]
            if ahead and run not in self.stops:
                yield Task(run, max(ahead), tuple(sorted({*ahead} - {max(ahead)})))

    def _look(self, run: PlannedRun) -> Curve | None:
        """Return the curve of a run, read when it is first asked for; one that failed in an earlier call goes on."""
        if run not in self._seen:
            self._seen.add(run)
            self._read(run)
            if (stop := run.stop()) is not None and stop.diverged:
                self.stops[run] = stop
        return self.curves.get(run)

    def _read(self, run: PlannedRun) -> None:
        """Read the metrics of a run. Raise DsvError if it counts its tokens in another way."""
        if (curve := run.curve()) is None:
            return
        tokens = curve.used[BudgetKind.TOKENS][-1] / curve.steps
        if run.step_tokens and tokens != run.step_tokens:
            words = f"a step of the run in {run.folder} has {tokens:g} tokens, and {run.step_tokens} were expected"
            raise DsvError(words, hint="give --batch, --seq and --accumulate as the training takes them")
        self.curves[run] = curve

    def ended(self, task: Task, error: str) -> None:
        """Take up what a process left that was to train ``task``; ``error`` is what it failed with, if it did.

        Raise DsvError if it failed before its first step, or if it ended early without a reason.
        """
        run = task.run
        same = [other for other in self._seen if other.folder == run.folder]
        for other in same:
            self._read(other)
        curve = self.curves.get(run)
        if error:
            found = run.stop()
            if not (found and found.diverged):
                if curve is None:
                    raise _refused(run, error)
                run.failed(error)
            self.stops |= dict.fromkeys(same, run.stop() or Stop(0, error, False))
        elif curve is None or curve.steps < task.steps:
            steps = curve.steps if curve else 0
            raise DsvError(f"the run in {run.folder} ended after step {steps}, and was to end after {task.steps}")


def _refused(run: PlannedRun, error: str) -> DsvError:
    """Return the error for a run that could take no step: what keeps it keeps the others too."""
    words = f"`{run.variant.name}` cannot be trained: {error}"
    return DsvError(words, hint=f"the command was: {run.printed(1)}")
