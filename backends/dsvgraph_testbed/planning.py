"""How far each run goes: the first variant's budget becomes three, which all others have to cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dsvgraph.backends import Budget, BudgetKind, Variant
from dsvgraph_testbed.curves import Curve, Reading
from dsvgraph_testbed.runs import PlannedRun

AHEAD = 1.1
"""A run goes so much further than the time of a budget seems to need: its loss there lies between two evaluations."""

PROBE = 20
"""Steps that are taken to learn how long one takes."""

Curves = Mapping[PlannedRun, Curve]
Amounts = Mapping[BudgetKind, float]
MakeRun = Callable[[Variant, int, int | None], PlannedRun]
"""Returns the run of a variant with a seed, of a given number of steps where its learning rate depends on it."""


def steps_of(budget: Budget, run: PlannedRun) -> int | None:
    """Return the steps in which ``run`` uses up ``budget``, at least one; None where that is not known before."""
    per_step = run.rates().get(budget.kind)
    return max(1, math.ceil(budget.amount / per_step - 1e-9)) if per_step else None


def three_budgets(
    budget: Budget, steps: int | None, baseline: Iterable[PlannedRun], curves: Curves
) -> dict[BudgetKind, float]:
    """Return what the first variant uses up of each budget, as far as it is known yet.

    By tokens, or FLOPs of steps that are all alike, that is after its last step, ``steps``; the others are means over
    its runs. By minutes, or FLOPs of steps that differ, it is the mean number of whole steps that its runs take in it.
    """
    runs = list(baseline)
    known = [curves[run] for run in runs if run in curves]
    found: dict[BudgetKind, float] = {}
    if steps is None:
        found[budget.kind] = budget.amount
        reached = [c for c in known if c.used[budget.kind][-1] >= budget.amount]
        if known and len(reached) == len(runs):
            steps = max(1, int(np.mean([c.step_at(budget.kind, budget.amount) for c in reached])))
    if steps is None:
        return found
    found |= {kind: steps * per_step for kind, per_step in runs[0].rates().items()}
    ended = [c for c in known if c.steps >= steps]
    if known and len(ended) == len(runs):
        left = [kind for kind in BudgetKind if kind not in found]
        found |= {kind: float(np.mean([c.used_at(kind, steps) for c in ended])) for kind in left}
    return found


def ends(run: PlannedRun, curve: Curve | None, amounts: Amounts) -> list[int]:
    """Return the steps at which ``run`` has to be measured, one for each budget that it is known for.

    A time, or FLOPs of steps that differ, is reached by the rate so far; one that lies ahead is aimed a little further,
    so that it lies between two evaluations. Before the first step, a run that only has a time is sent PROBE steps.
    """
    done, rates, wanted = (curve.steps if curve else 0), run.rates(), list[int]()
    for kind, amount in amounts.items():
        if kind in rates:
            wanted.append(max(1, round(amount / rates[kind])))
        elif curve is not None:
            step = curve.step_at(kind, amount)
            late = step > done + 0.5
            wanted.append(math.ceil(done + 1 + (step - done) * AHEAD) if late else min(done, round(step)))
    return wanted or [PROBE]


@dataclass
class OneRunEach:
    """All budgets are read from one run of each variant and seed, whose learning rate stays after warm-up."""

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    budget: Budget
    make: MakeRun
    made: dict[tuple[str, int], PlannedRun] = field(default_factory=dict)

    def run(self, variant: Variant, seed: int, kind: BudgetKind) -> PlannedRun | None:
        """Return the run that is read at a budget."""
        key = variant.name, seed
        if key not in self.made:
            self.made[key] = self.make(variant, seed, None)
        return self.made[key]

    def runs(self, curves: Curves) -> list[PlannedRun]:
        """Return all runs, those of one seed together and the first variant's first."""
        found = [self.run(variant, seed, self.budget.kind) for seed in self.seeds for variant in self.variants]
        return [run for run in found if run is not None]

    def amounts(self, curves: Curves, lost: Iterable[PlannedRun]) -> dict[BudgetKind, float]:
        """Return the three budgets as far as they are known, from the first variant's runs that are not ``lost``."""
        first = [self.run(self.variants[0], seed, self.budget.kind) for seed in self.seeds]
        runs = [run for run in first if run is not None]
        left = [run for run in runs if run not in set(lost)]
        steps = steps_of(self.budget, runs[0])
        return three_budgets(self.budget, steps, left or runs, curves)

    def ends(self, run: PlannedRun, curve: Curve | None, amounts: Amounts) -> list[int]:
        """Return the steps at which ``run`` has to be measured."""
        return ends(run, curve, amounts)

    def reading(self, run: PlannedRun, curve: Curve, name: str, kind: BudgetKind, amount: float) -> Reading | None:
        """Return a measured quantity of ``run`` at a budget."""
        return curve.read(name, curve.step_at(kind, amount))


@dataclass
class OneRunPerBudget:
    """Each budget has a run of its own, whose learning rate falls to its end there.

    ``steps`` are those of the first variant.
    """

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    budget: Budget
    make: MakeRun
    steps: int
    lengths: dict[tuple[str, BudgetKind], int] = field(default_factory=dict)
    made: dict[tuple[str, int, int], PlannedRun] = field(default_factory=dict)

    def run(self, variant: Variant, seed: int, kind: BudgetKind) -> PlannedRun | None:
        """Return the run that is read at a budget; None while its length is not known. Equal lengths are one run."""
        length = self.lengths.get((variant.name, kind))
        if length is None:
            return None
        key = variant.name, seed, length
        if key not in self.made:
            self.made[key] = self.make(variant, seed, length)
        return self.made[key]

    def runs(self, curves: Curves) -> list[PlannedRun]:
        """Return all runs whose length is known, those of one seed together and the first variant's first."""
        kinds = list(BudgetKind)
        found = (self.run(v, seed, kind) for seed in self.seeds for v in self.variants for kind in kinds)
        return list(dict.fromkeys(run for run in found if run is not None))

    def amounts(self, curves: Curves, lost: Iterable[PlannedRun]) -> dict[BudgetKind, float]:
        """Return the three budgets as far as they are known, and note the lengths of runs that follow from them."""
        first, gone = self.variants[0], set(lost)
        self.lengths |= {(first.name, kind): self.steps for kind in BudgetKind}
        runs = [run for seed in self.seeds if (run := self.run(first, seed, BudgetKind.TOKENS))]
        rates = runs[0].rates()
        amounts = {kind: self.steps * per_step for kind, per_step in rates.items()}
        left = [run for run in runs if run not in gone]
        if left and all(run in curves and curves[run].steps >= self.steps for run in left):
            for kind in [kind for kind in BudgetKind if kind not in rates]:
                amounts[kind] = float(np.mean([curves[run].used_at(kind, self.steps) for run in left]))
        for variant in self.variants[1:]:
            self._note_lengths(variant, amounts, curves, gone)
        return amounts

    def _note_lengths(self, variant: Variant, amounts: Amounts, curves: Curves, lost: set[PlannedRun]) -> None:
        """Note the steps in which a variant uses up each budget, by its speed once its runs of equal tokens ended."""
        self.lengths[variant.name, BudgetKind.TOKENS] = self.steps
        runs = [run for seed in self.seeds if (run := self.run(variant, seed, BudgetKind.TOKENS))]
        rates = runs[0].rates()
        left = [run for run in runs if run not in lost]
        ended = left and all(run in curves and curves[run].steps >= self.steps for run in left)
        for kind in (BudgetKind.FLOPS, BudgetKind.MINUTES):
            known = kind in amounts and (variant.name, kind) not in self.lengths
            if known and (kind in rates or ended):
                rate = rates.get(kind) or float(np.mean([curves[run].rate(kind) for run in left]))
                self.lengths[variant.name, kind] = max(1, round(amounts[kind] / rate))

    def ends(self, run: PlannedRun, curve: Curve | None, amounts: Amounts) -> list[int]:
        """Return the last step of ``run``."""
        return [run.length or 0]

    def reading(self, run: PlannedRun, curve: Curve, name: str, kind: BudgetKind, amount: float) -> Reading | None:
        """Return a measured quantity at the end of ``run``."""
        return curve.read(name, run.length or 0)
