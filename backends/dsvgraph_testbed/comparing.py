"""One comparison from the question to the report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dsvgraph.backends import Comparison
from dsvgraph.errors import DsvError
from dsvgraph.files import write_atomic, write_errors
from dsvgraph_testbed.devices import places
from dsvgraph_testbed.display import Display
from dsvgraph_testbed.experiment import Experiment
from dsvgraph_testbed.report import data, facts, markdown, page
from dsvgraph_testbed.report.terminal import verdicts
from dsvgraph_testbed.results import Results
from dsvgraph_testbed.training import train


@dataclass(frozen=True)
class Compared:
    """What a comparison came to. ``interrupted``: some runs are not over, and the same call goes on with them."""

    interrupted: bool
    files: tuple[Path, ...]
    results: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return runs, readings and verdicts as plain data, and where the reports are."""
        return {**self.results, "files": [str(path) for path in self.files]}


def compare(comparison: Comparison, console: Console, progress: Console) -> Compared:
    """Train what is not trained yet, then judge all of it and write the reports.

    Raise DsvError if no run can be started, if runs read different data, or if a file cannot be written.
    """
    experiment = Experiment(comparison)
    where = places(comparison.jobs, str(experiment.training.get("device", "auto")))
    interrupted = train(experiment, where, Display(progress, experiment))
    if interrupted:
        console.print(Text(f"stopped; the same command goes on:\n  {comparison.command}"), soft_wrap=True)
    if experiment.strategy is None:
        if stop := experiment.stops.get(experiment.pilot):
            raise DsvError(f"`{comparison.variants[0].name}`, the baseline, stopped at step {stop.step}: {stop.words}")
        return Compared(interrupted, (), {"complete": False})
    results = Results(experiment, interrupted, f"Runs: {where.words}.", where.contended)
    results.check_data()
    files, found = written(results)
    for part in verdicts(results) if results.complete else ():
        console.print(part)
    console.print(Text(f"written: {', '.join(map(str, files))}"), soft_wrap=True)
    return Compared(interrupted, files, found)


def written(results: Results) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Write page, Markdown and JSON of a comparison; return their paths, and the data."""
    folder = results.comparison.folder
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    costs, differences = facts.costs(results), facts.differences(results)
    found = data.as_dict(results, costs)
    plots = page.plots(results)
    names = {"report.html": page.page(results, costs, differences, plots)}
    names["report.md"] = markdown.text(results, costs, differences, plots)
    names["results.json"] = json.dumps(found, indent=2, allow_nan=False) + "\n"
    for name, plot in plots.items():
        _plot(folder / "plots" / f"{name}.svg", plot.svg)
    for name, text in names.items():
        write_atomic(folder / name, text, in_place=True)
    return tuple(folder / name for name in names), found


def _plot(path: Path, svg: str) -> None:
    with write_errors(path):
        path.parent.mkdir(exist_ok=True)
    write_atomic(path, f'<?xml version="1.0" encoding="utf-8"?>\n{svg}', in_place=True)
