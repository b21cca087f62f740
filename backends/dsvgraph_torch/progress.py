"""What one sees of a run: a bar on a terminal, a few lines elsewhere, a table at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .step import StepMetrics

LINES = 10
"""How many lines tell of a run where there is no terminal."""


class Reporter(Protocol):
    """Shows a run as it goes."""

    def __enter__(self) -> Reporter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, step: int, metrics: StepMetrics) -> None:
        """Tells of one step."""

    def note(self, text: str) -> None:
        """Tells of something that happened."""


def reporter(console: Console, start: int, steps: int) -> Reporter:
    """A bar where one can be drawn, else plain lines."""
    animated = console.is_terminal and not console.is_dumb_terminal and not console.no_color
    return Bar(console, start, steps) if animated else Lines(console, steps)


class Bar:
    """A live progress bar with the losses of every depth beside it."""

    def __init__(self, console: Console, start: int, steps: int) -> None:
        columns = (BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
        self.progress = Progress(*columns, console=console)
        self.task = self.progress.add_task("", completed=start, total=steps)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, step: int, metrics: StepMetrics) -> None:
        self.progress.update(self.task, completed=step, description=summary(metrics))

    def note(self, text: str) -> None:
        self.progress.console.print(Text(text, style="dim"))


class Lines:
    """A line at each tenth of the run, for log files."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def step(self, step: int, metrics: StepMetrics) -> None:
        tenth = max(1, self.steps // LINES)
        if step % tenth == 0 or step in (1, self.steps):
            self.note(f"step {step}/{self.steps}  {summary(metrics)}")

    def note(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


def summary(metrics: StepMetrics) -> str:
    """One step in one line: the loss, each of its parts, speed, balance."""
    parts = [f"loss {metrics.loss:.3f}", *(f"{name} {value:.3f}" for name, value in metrics.losses.items())]
    parts.append(f"{metrics.tokens_per_second:,.0f} tok/s")
    if metrics.balance:
        parts.append(f"balance {metrics.balance:.2f}")
    return "  ".join(parts)
