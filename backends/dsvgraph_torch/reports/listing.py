"""A list of runs, from the ends of their files."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dsvgraph.backends import RunState, RunSummary
from dsvgraph.errors import DsvError
from dsvgraph.files import opened
from dsvgraph_torch.runs.files import LOCK
from dsvgraph_torch.runs.folder import Run
from dsvgraph_torch.runs.schema import About
from dsvgraph_torch.training.options import UNBOUNDED
from dsvgraph_torch.training.schedule import Reason

TAIL = 2**18
"""Bytes at the end of the metrics that are read first: a run may have written millions of lines."""

STATES = {
    Reason.INTERRUPTED: RunState.INTERRUPTED,
    Reason.DIVERGED: RunState.DIVERGED,
    Reason.FAILED: RunState.FAILED,
}


def runs(folder: Path) -> list[RunSummary]:
    """Return the runs in ``folder`` and below it, by path. Raise DsvError if there is no such folder."""
    if not folder.is_dir():
        raise DsvError(f"{folder} is no folder")
    return [summary(Run(path)) for path in sorted(_folders(folder))]


def _folders(folder: Path) -> Iterator[Path]:
    for place, names, files in os.walk(folder):
        if "run.json" in files:
            yield Path(place)
            names[:] = []
        names[:] = [name for name in names if not name.startswith(".")]


def summary(run: Run) -> RunSummary:
    """Return what there is to tell of a run; of a damaged one, why."""
    try:
        about = run.read_about()
        last, heldout = _end_of(run.metrics)
    except DsvError as error:
        return RunSummary(path=run.path, state=RunState.DAMAGED, words=error.diagnostics[0].message)
    main = next(iter(last.get("losses", ())), None)
    if about.result:
        heldout = about.result.heldout
    return RunSummary(
        path=run.path,
        state=state(run, about),
        spec=name_of(run),
        step=last.get("step", 0),
        steps=about.options.length if about.options.length < UNBOUNDED else None,
        tokens=last.get("tokens", 0),
        loss=last.get("loss"),
        heldout=heldout.get(main) if main else None,
        seconds=last.get("seconds"),
        words=about.stopped.message if about.stopped else "",
    )


def name_of(run: Run) -> str:
    """Return the name of a run's model."""
    found = re.search(r"^name: *(.*)$", run.read_spec(), re.MULTILINE)
    return found[1].strip("\"'") if found else ""


def state(run: Run, about: About) -> RunState:
    """Return how a run stands."""
    if held(run.path / LOCK):
        return RunState.RUNNING
    if about.stopped is None:
        return RunState.FINISHED if about.result else RunState.KILLED
    default = RunState.FINISHED if about.result else RunState.KILLED
    return STATES.get(about.stopped.reason, default)


def held(lock: Path) -> bool:
    """Return whether a process trains into the folder of ``lock``."""
    with suppress(OSError), lock.open("rb") as file:
        if not _alive(file.read(20).decode(errors="replace").strip()):
            return False  # without a touch of the lock, which a training may want to take
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _alive(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _end_of(metrics: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the last line of the metrics and the last held-out losses, empty where there is none."""
    if not metrics.exists():
        return {}, {}
    size = metrics.stat().st_size
    for length in dict.fromkeys((min(TAIL, size), size)):
        lines = _lines(metrics, size - length)
        for line in reversed(lines):
            if found := line.get("heldout"):
                return lines[-1], found
    return (lines[-1] if lines else {}), {}


def _lines(metrics: Path, start: int) -> list[dict[str, Any]]:
    """Return the whole lines behind ``start``. Raise DsvError if one is none of metrics."""
    try:
        with opened(metrics) as file:
            file.seek(start)
            text = file.read()
    except OSError as error:
        raise DsvError(f"cannot read {metrics}: {error.strerror}") from error
    whole = text.split(b"\n")[1 if start else 0 : -1]
    try:
        return [json.loads(line) for line in whole]
    except ValueError:
        raise DsvError(f"{metrics} is damaged: a line is no JSON") from None
