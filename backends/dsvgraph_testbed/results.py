"""What a comparison came to: readings at each budget, their differences, and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from dsvgraph.backends import BudgetKind, Comparison, Pairs, Variant
from dsvgraph.errors import DsvError
from dsvgraph_testbed.curves import Curve, Reading
from dsvgraph_testbed.experiment import Experiment
from dsvgraph_testbed.measures import Measure, losses_of, measured
from dsvgraph_testbed.runs import PlannedRun
from dsvgraph_testbed.statistics import Pair, Table, judged

Cells = Mapping[str, Mapping[int, Reading]]
"""Readings of one measure at one budget, by variant and seed."""


@dataclass(frozen=True)
class AtBudget:
    """What was read at one budget: ``main`` holds the verdicts on the question, ``detail`` those on farther tokens."""

    kind: BudgetKind
    amount: float
    cells: Mapping[Measure, Cells]
    main: Table
    detail: Table


@dataclass
class Results:
    """The results of an experiment, as far as its runs have come."""

    experiment: Experiment
    interrupted: bool = False
    places: str = ""
    contended: str = ""

    @property
    def comparison(self) -> Comparison:
        """The question."""
        return self.experiment.comparison

    @property
    def names(self) -> list[str]:
        """The names of the variants, the baseline first."""
        return [variant.name for variant in self.comparison.variants]

    # -- runs -----------------------------------------------------------------------------------

    def run_of(self, variant: Variant, seed: int, kind: BudgetKind) -> PlannedRun | None:
        """Return the run that is read at a budget; None where it is not known yet."""
        strategy = self.experiment.strategy
        return strategy.run(variant, seed, kind) if strategy else None

    def curves_of(self, variant: Variant, kind: BudgetKind = BudgetKind.TOKENS) -> dict[int, Curve]:
        """Return the curves of a variant by seed, as far as its runs have begun."""
        runs = {seed: self.run_of(variant, seed, kind) for seed in self.comparison.seeds}
        known = self.experiment.curves
        return {seed: known[run] for seed, run in runs.items() if run is not None and run in known}

    @cached_property
    def measures(self) -> dict[Measure, dict[str, str]]:
        """What is measured, and its name in the metrics of each variant that has it."""
        found: dict[Measure, dict[str, str]] = {}
        for variant in self.comparison.variants:
            for measure, name in measured(variant.model, self.curves_of(variant), self._whole_rows).items():
                found.setdefault(measure, {})[variant.name] = name
        return dict(sorted(found.items(), key=lambda item: not item[0].main))

    @cached_property
    def data(self) -> dict[str, str]:
        """Where the text of the runs came from and the digest of its bytes, as the runs recorded them."""
        abouts = [about for run in self.experiment.runs() if (about := run.about().get("data"))]
        return dict(abouts[0]) if abouts else {}

    def check_data(self) -> None:
        """Raise DsvError if two runs read different data."""
        found = {str(about["sha256"]): run for run in self.experiment.runs() if (about := run.about().get("data"))}
        if len(found) > 1:
            one, other = list(found.values())[:2]
            raise DsvError(
                f"the runs in {one.folder} and {other.folder} read different data", hint="begin with another --out"
            )

    @cached_property
    def complete(self) -> bool:
        """Whether all runs are over."""
        return self.experiment.strategy is not None and not self.experiment.tasks()

    @cached_property
    def notes(self) -> list[str]:
        """What a reader has to know beside the verdicts."""
        found = [] if self.complete else ["Not all runs are over: this report is of what there is so far."]
        if self.contended:
            found.append(f"Wall clock is contended: {self.contended}. Judge by tokens and FLOPs, or use --jobs 1.")
        if len(self.comparison.seeds) < 2:
            found.append("One seed gives no verdict: there is nothing to tell an effect from chance.")
        return [*found, *self._stops(), *self._equal_specs(), *self._unlike()]

    def _unlike(self) -> Iterator[str]:
        """Yield which variants cannot be judged because their main losses are not the same quantity."""
        whole = self._whole_rows
        labels = {v.name: next(iter(losses_of(v.model, whole))).label for v in self.comparison.variants}
        for name, label in labels.items():
            if label != labels[self.names[0]]:
                words = f"is {label}, and that of {self.names[0]} {labels[self.names[0]]}"
                yield f"The main loss of {name} {words}: they are computed in different ways and not compared."

    def _stops(self) -> Iterator[str]:
        """Yield which runs of each variant stopped, at which steps, and why."""
        stops = self.experiment.stops
        for name in self.names:
            found = {run: stop for run, stop in stops.items() if run.variant.name == name}
            seeds = len({run.seed for run in found})
            where = ", ".join(f"{run.seed} at step {stop.step}" for run, stop in found.items())
            words = "; ".join(dict.fromkeys(stop.words for stop in found.values()))
            if found:
                verb = "diverged" if all(stop.diverged for stop in found.values()) else "stopped"
                of = f"{seeds} of {len(self.comparison.seeds)} seeds"
                yield f"{name} {verb} with {of} (seed {where}): {words}."

    def _equal_specs(self) -> Iterator[str]:
        specs = self.experiment.specs
        for a, b in combinations(self.names, 2):
            if specs[a] == specs[b]:
                yield f"{a} and {b} are the same resolved spec, and so the same runs."

    @property
    def _whole_rows(self) -> bool:
        """Whether every position of the training's rows has a next token: those of a task may end before."""
        return "task" not in self.experiment.training

    # -- readings -------------------------------------------------------------------------------

    @cached_property
    def budgets(self) -> list[AtBudget]:
        """What was read and judged at each budget that is known."""
        amounts = self.experiment.amounts()
        return [self._at(kind, amounts[kind]) for kind in BudgetKind if kind in amounts]

    def _at(self, kind: BudgetKind, amount: float) -> AtBudget:
        cells = {measure: self._cells(measure, kind, amount) for measure in self.measures}
        pairs = [pair for measure in self.measures for pair in self._pairs(measure, cells[measure], kind)]
        mains = {measure.label for measure in self.measures if measure.main}
        confidence = self.comparison.confidence
        main = judged([pair for pair in pairs if pair.measure in mains], confidence)
        detail = judged([pair for pair in pairs if pair.measure not in mains], confidence)
        return AtBudget(kind, amount, cells, main, detail)

    def _cells(self, measure: Measure, kind: BudgetKind, amount: float) -> Cells:
        """Return the readings of one measure at a budget, of runs that have come so far and did not diverge."""
        found: dict[str, dict[int, Reading]] = {}
        for variant in self.comparison.variants:
            if (name := self.measures[measure].get(variant.name)) is None:
                continue
            read = {seed: self._read(variant, seed, name, kind, amount) for seed in self.comparison.seeds}
            found[variant.name] = {seed: reading for seed, reading in read.items() if reading is not None}
        return found

    def _read(self, variant: Variant, seed: int, name: str, kind: BudgetKind, amount: float) -> Reading | None:
        run, strategy = self.run_of(variant, seed, kind), self.experiment.strategy
        if run is None or strategy is None or run in self.experiment.stops or run not in self.experiment.curves:
            return None
        return strategy.reading(run, self.experiment.curves[run], name, kind, amount)

    def _pairs(self, measure: Measure, cells: Cells, kind: BudgetKind) -> Iterator[Pair]:
        """Yield the pairs of variants to judge: all, or each with the first."""
        of = {variant.name: variant for variant in self.comparison.variants if variant.name in cells}
        names = list(of)
        first = self.names[0]
        for a, b in combinations(names, 2):
            if self.comparison.pairs is Pairs.ALL or a == first:
                both = [seed for seed in self.comparison.seeds if seed in cells[a] and seed in cells[b]]
                yield Pair(
                    measure=measure.label,
                    first=a,
                    second=b,
                    values={seed: (cells[a][seed].value, cells[b][seed].value) for seed in both},
                    higher_is_better=measure.higher_is_better,
                    obstacle="; ".join(why for name in (a, b) if (why := self.why_not(of[name], kind))),
                )

    def why_not(self, variant: Variant, kind: BudgetKind) -> str:
        """Return why a variant cannot be judged at a budget: runs that stopped or are not there yet; or nothing."""
        runs = {seed: self.run_of(variant, seed, kind) for seed in self.comparison.seeds}
        found = {seed: self.experiment.stops.get(run) for seed, run in runs.items() if run is not None}
        stops = {seed: stop for seed, stop in found.items() if stop is not None}
        if stops:
            of = f"{len(stops)} of {len(runs)} seeds"
            word = "diverged" if all(stop.diverged for stop in stops.values()) else "stopped"
            seed, stop = next(iter(stops.items()))
            return f"`{variant.name}` {word} with {of} (seed {seed}, step {stop.step})"
        if any(run is None or run not in self.experiment.curves for run in runs.values()):
            return f"the runs of `{variant.name}` are not over"
        return ""
