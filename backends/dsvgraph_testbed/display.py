"""What one sees while runs are trained: a bar for each on a terminal, a line for each end elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from dsvgraph_testbed.experiment import Experiment, Task
from dsvgraph_testbed.runs import PlannedRun


class Display:
    """The progress of all runs together, and of each that is under way."""

    def __init__(self, console: Console, experiment: Experiment) -> None:
        self.console, self.experiment = console, experiment
        self.animated = console.is_terminal and not console.is_dumb_terminal and not console.no_color
        name, bar = TextColumn("{task.description}", markup=False), BarColumn(24)
        self.progress = Progress(
            name, bar, MofNCompleteColumn(), TextColumn("steps, left"), TimeRemainingColumn(), console=console
        )
        self.bars: dict[PlannedRun, TaskID] = {}
        self.counters: dict[PlannedRun, Lines] = {}
        self.all = self.progress.add_task("all runs", total=None)

    def __enter__(self) -> Display:
        if self.animated:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.animated:
            self.progress.stop()

    def say(self, words: str) -> None:
        """Print a line."""
        self.progress.console.print(Text(words), soft_wrap=True)

    def started(self, task: Task) -> None:
        """Show that a process was started."""
        run = task.run
        self.counters.setdefault(run, Lines(run.metrics))
        if self.animated:
            self.bars[run] = self.progress.add_task(f"  {title(run)}", total=task.steps)
        else:
            self.say(f"training {title(run)} to step {task.steps}")

    def ended(self, task: Task, words: str) -> None:
        """Show that a process is over, and what came of it."""
        if bar := self.bars.pop(task.run, None):
            self.progress.remove_task(bar)
        if words:
            self.say(f"{title(task.run)}: {words}")

    def update(self, running: Collection[Task], waiting: Collection[Task]) -> None:
        """Show how far all runs are."""
        if not self.animated:
            return
        for task in running:
            self.progress.update(self.bars[task.run], completed=self.counters[task.run].count())
        goals = {task.run: task.steps for task in (*waiting, *running)}
        done, total = 0, 0
        for run in self.experiment.runs():
            counter, curve = self.counters.get(run), self.experiment.curves.get(run)
            steps = counter.count() if counter else curve.steps if curve else 0
            done, total = done + steps, total + max(steps, goals.get(run, 0))
        self.progress.update(self.all, completed=done, total=total)


def title(run: PlannedRun) -> str:
    """Return what a run is called where there are others."""
    length = f", {run.length} steps" if run.length else ""
    return f"{run.variant.name}, seed {run.seed}{length}"


class Lines:
    """Counts the lines of a file that grows, each time from where it was; one that became shorter from the start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place, self.lines = 0, 0

    def count(self) -> int:
        """Return the number of lines now."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.place:
                    self.place = self.lines = 0
                file.seek(self.place)
                found = file.read()
        except OSError:
            return self.lines
        self.place += len(found)
        self.lines += found.count(b"\n")
        return self.lines
