"""All that a comparison came to as plain data: results.json."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from dsvgraph_testbed.identity import versions
from dsvgraph_testbed.report import facts
from dsvgraph_testbed.report.words import method, question
from dsvgraph_testbed.results import AtBudget, Results
from dsvgraph_testbed.runs import PlannedRun
from dsvgraph_testbed.statistics import Judgement, Table

FORMAT = 1


def as_dict(results: Results, costs: list[facts.Cost]) -> dict[str, Any]:
    """Return the results as data for JSON; a number that is not known is null."""
    comparison, experiment = results.comparison, results.experiment
    return {
        "format": FORMAT,
        "question": question(results),
        "command": comparison.command,
        "complete": results.complete,
        "baseline": results.names[0],
        "seeds": list(comparison.seeds),
        "budget": str(comparison.budget),
        "anneal": comparison.anneal,
        "method": method(results),
        "notes": results.notes,
        "training": {name: str(value) for name, value in experiment.training.items()},
        "versions": versions(),
        "data": results.data,
        "variants": [
            {"name": v.name, "spec": experiment.specs[v.name].name, "cost": asdict(cost)}
            for v, cost in zip(comparison.variants, costs, strict=True)
        ],
        "budgets": [_budget(at) for at in results.budgets],
        "runs": [_run(results, run) for run in experiment.runs()],
    }


def _budget(at: AtBudget) -> dict[str, Any]:
    return {
        "kind": at.kind.value,
        "amount": at.amount,
        "readings": [
            {"measure": measure.label, "variant": name, "seed": seed, "value": reading.value, "exact": reading.exact}
            for measure, cells in at.cells.items()
            for name, by_seed in cells.items()
            for seed, reading in by_seed.items()
        ],
        "verdicts": [_verdict(found, table) for table in (at.main, at.detail) for found in table.judgements],
    }


def _verdict(found: Judgement, table: Table) -> dict[str, Any]:
    pair = found.pair
    return {
        "measure": pair.measure,
        "first": pair.first,
        "second": pair.second,
        "verdict": found.verdict.value,
        "effect": _number(found.effect),
        "percent": _number(found.percent),
        "interval": [_number(end) for end in found.interval],
        "interval_alone": [_number(end) for end in found.single],
        "p": _number(found.p),
        "p_holm": _number(found.p_adjusted),
        "corrected_for": table.tested,
        "confidence": table.confidence,
        "seeds": list(pair.values),
        "note": found.note,
    }


def _run(results: Results, run: PlannedRun) -> dict[str, Any]:
    curve, stop = results.experiment.curves.get(run), results.experiment.stops.get(run)
    return {
        "variant": run.variant.name,
        "seed": run.seed,
        "folder": f"runs/{run.folder.name}",
        "command": run.printed(curve.steps if curve else 1),
        "steps": curve.steps if curve else 0,
        **({f"{kind}": float(used[-1]) for kind, used in curve.used.items()} if curve else {}),
        "stopped": asdict(stop) if stop else None,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
