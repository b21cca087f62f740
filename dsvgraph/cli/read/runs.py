"""`dsvgraph runs`: the training runs in a folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from dsvgraph import backends
from dsvgraph.backends import RunSummary
from dsvgraph.cli import output
from dsvgraph.cli.options import BackendOption, JsonOption

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Where to look, below it too.")]


def run(folder: Folder = Path("runs"), as_json: JsonOption = False, backend: BackendOption = None) -> None:
    """List training runs: how far they are, their losses, and how they ended."""
    found = backends.run_reader(backend).runs(folder)
    if as_json:
        output.data([summary.as_dict() for summary in found])
        return
    if not found:
        output.write(f"no runs in {folder}")
        return
    columns = ["run", "spec", "state", ">step", ">tokens", ">loss", ">held-out", ">time"]
    output.write(output.table(columns, [row(summary) for summary in found]), widest=200)
    for summary in found:
        if summary.words:
            output.write(f"{summary.path}: {summary.words}")


def row(summary: RunSummary) -> list[object]:
    """Return the cells of a run."""
    taken = "-" if summary.step is None else f"{summary.step:,}" + (f"/{summary.steps:,}" if summary.steps else "")
    time = "-" if summary.seconds is None else str(timedelta(seconds=round(summary.seconds)))
    numbers = [taken, summary.tokens, _nats(summary.loss), _nats(summary.heldout), time]
    return [str(summary.path), summary.spec, summary.state.value, *numbers]


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
