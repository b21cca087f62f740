"""The tables of a report as rows of text, for the page and for Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dsvgraph_testbed.curves import Reading
from dsvgraph_testbed.measures import Measure
from dsvgraph_testbed.report import facts
from dsvgraph_testbed.report.words import EQUAL, amount, duration, effect, interval, p_text, short, signed
from dsvgraph_testbed.results import AtBudget, Results
from dsvgraph_testbed.statistics import Judgement, Table, mean_interval


@dataclass(frozen=True)
class PairRow:
    """One pair of variants with its judgement at each budget."""

    first: str
    second: str
    measure: str
    cells: tuple[Judgement, ...]


def verdict_rows(results: Results, detail: bool = False) -> list[PairRow]:
    """Return the verdicts, a row for each pair and a cell for each budget."""
    tables: list[Table] = [at.detail if detail else at.main for at in results.budgets]
    rows = zip(*(table.judgements for table in tables), strict=True)
    return [PairRow(cells[0].pair.first, cells[0].pair.second, cells[0].pair.measure, cells) for cells in rows]


def cell_lines(found: Judgement) -> list[str]:
    """Return what stands below a verdict: effect, interval, p-value; or why there is none.

    A difference of one seed is shown; one of the seeds that a diverged variant is left with is not.
    """
    if not interval(found):
        shown = [effect(found)] if not (math.isnan(found.effect) or found.pair.obstacle) else []
        return [*shown, *([found.note] if found.note else [])]
    return [effect(found), f"{interval(found)} {p_text(found.p_adjusted)}", *([found.note] if found.note else [])]


def value(measure: Measure, cells: dict[int, Reading], confidence: float) -> str:
    """Return a mean over seeds with half the width of its interval; a value between two evaluations begins with ~."""
    values = [reading.value for reading in cells.values()]
    if not values:
        return "–"
    scale, digits = (100, 1) if measure.higher_is_better else (1, 4)
    middle, low, high = (scale * number for number in mean_interval(values, confidence))
    spread = f" ± {(high - low) / 2:.{digits}f}" if len(values) > 1 else ""
    between = "" if all(reading.exact for reading in cells.values()) else "~"
    return f"{between}{middle:.{digits}f}{spread}{' %' if measure.higher_is_better else ''}"


def value_rows(results: Results) -> Iterator[list[str]]:
    """Yield for each measure and variant its held-out value at each budget."""
    for measure in results.measures:
        for name in results.names:
            if name in results.measures[measure]:
                cells = [dict(at.cells[measure].get(name, {})) for at in results.budgets]
                yield [
                    measure.label,
                    name,
                    *(value(measure, by_seed, results.comparison.confidence) for by_seed in cells),
                ]


def budget_heads(results: Results) -> list[str]:
    """Return the heads of columns that stand for budgets."""
    return [f"{EQUAL[at.kind]} ({amount(at.kind, at.amount)})" for at in results.budgets]


COSTS = ("variant", "parameters", "of them at inference", "training FLOPs per token", "", "inference FLOPs per token",
         "memory of training")  # fmt: skip


def cost_rows(costs: list[facts.Cost]) -> Iterator[list[str]]:
    """Yield the cost of each variant, with its training FLOPs against those of the first."""
    base = costs[0].train_flops_per_token
    for cost in costs:
        more = cost.train_flops_per_token / base - 1 if base else 0.0
        yield [
            cost.variant,
            f"{cost.parameters:,}",
            f"{cost.parameters_inference:,}",
            short(cost.train_flops_per_token),
            f"{signed(100 * more, 1)} %" if more else "",
            short(cost.inference_flops_per_token),
            f"{short(cost.peak_memory_bytes)}B",
        ]


RUNS = ("variant", "seed", "steps", "tokens", "FLOPs", "wall clock", "folder", "state")


def run_rows(results: Results) -> Iterator[list[str]]:
    """Yield what each run used up, and how it ended."""
    for run in results.experiment.runs():
        curve, stop = results.experiment.curves.get(run), results.experiment.stops.get(run)
        used = [float(part[-1]) for part in curve.used.values()] if curve else [0.0, 0.0, 0.0]
        state = f"{'diverged' if stop.diverged else 'stopped'} at step {stop.step}" if stop else "trained"
        steps = f"{curve.steps:,}" if curve else "0"
        words = [short(used[0], "KMBT"), short(used[1]), duration(used[2])]
        yield [
            run.variant.name,
            str(run.seed),
            steps,
            *words,
            f"runs/{run.folder.name}",
            state if curve else "not begun",
        ]


def settings(results: Results) -> list[tuple[str, str]]:
    """Return names and values of what the runs have in common."""
    found = {name.replace("_", "-"): str(value) for name, value in results.experiment.training.items()}
    data = results.data
    about = {"data": data.get("source", "–"), "digest of the data": data.get("sha256", "–")}
    return [*about.items(), *((name, value) for name, value in found.items() if name != "data")]


def at_tokens(results: Results) -> AtBudget | None:
    """Return what was read at the first budget that is known."""
    return results.budgets[0] if results.budgets else None
