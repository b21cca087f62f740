"""Training processes: several at a time, each in a place of its own, all ended cleanly when this one is, or is killed.

Each reads a pipe of this process: where that is killed the pipe ends, and each saves its run and ends too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dsvgraph.files import write_errors
from dsvgraph.processes import VARIABLE
from dsvgraph_testbed.devices import Places
from dsvgraph_testbed.experiment import Task
from dsvgraph_testbed.runs import PlannedRun

PATIENCE = 120.0
"""Seconds that a process may take to save its run when it is asked to end."""

INTERRUPTED = 130

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(frozen=True)
class Ended:
    """A process that is over: what it was to train, and the error that it printed, if it failed.

    ``interrupted``: it saved its run because it was asked to end.
    """

    task: Task
    error: str
    interrupted: bool


class Pool:
    """The processes under way. Leaving it asks each to save and end, and waits for that."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.running: dict[Task, tuple[subprocess.Popen[bytes], int]] = {}
        self.held: tuple[int, ...] = ()

    def __enter__(self) -> Pool:
        self.held = os.pipe()  # its other end is this process's alone
        return self

    def __exit__(self, *_: object) -> None:
        for process, _place in self.running.values():
            with suppress(OSError):
                process.terminate()
        for process, _place in self.running.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()
        for end in self.held:
            os.close(end)

    @property
    def full(self) -> bool:
        """Whether there is no place for another process."""
        return not self.places.free

    def start(self, task: Task) -> None:
        """Start the process that trains a run until the step of ``task``."""
        run = task.run
        run.begin()
        command = [*run.command(task.steps, task.at), "--json"]
        place = self.places.free.pop(0)
        environment = {**os.environ, **self.places.environments[place], "NO_COLOR": "1", VARIABLE: "1"}
        with write_errors(run.log), run.log.open("ab") as log, _answer(run).open("wb") as answer:
            process = subprocess.Popen(
                command, stdin=self.held[0], stdout=answer, stderr=log, env=environment, start_new_session=True
            )
        self.running[task] = process, place

    def ended(self) -> list[Ended]:
        """Return the processes that ended since the last call, their places free again."""
        found = []
        for task, (process, place) in list(self.running.items()):
            if (code := process.poll()) is not None:
                del self.running[task]
                self.places.free.append(place)
                self.places.free.sort()
                error = "" if code in (0, INTERRUPTED) else _error(task.run, code)
                found.append(Ended(task, error, code == INTERRUPTED))
                _answer(task.run).unlink(missing_ok=True)
        return found


def _answer(run: PlannedRun) -> Path:
    """Return the file for what a process prints as JSON."""
    return run.folder.with_name(f".{run.folder.name}.answer")


def _error(run: PlannedRun, code: int) -> str:
    """Return what a process that failed said, in one line."""
    if code < 0:
        return f"its process was ended by {_signal_name(-code)}"
    with suppress(OSError, ValueError, LookupError, TypeError):
        answer: Any = json.loads(_answer(run).read_text(encoding="utf-8"))
        errors = [str(error["message"]) for error in answer["errors"]]
        return "; ".join(errors)
    return f"its process exited with code {code}; {run.log} has what it printed"


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


class StopRequest:
    """Within it, Ctrl-C, SIGTERM and SIGHUP set ``requested`` in place of ending the process.

    A second one ends it at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            heeded = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._on_signal) for s in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
