"""What one sees of a run: a bar on a terminal, a few lines elsewhere, a table at the end."""

from __future__ import annotations

import math
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from dsvgraph_torch.training.predictions import Head
from dsvgraph_torch.training.step import StepMetrics

LINES = 10
"""How many lines tell of a run where there is no terminal."""


class Reporter(Protocol):
    """Shows a run as it goes; enter it before the first step."""

    def __enter__(self) -> Reporter: ...

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, metrics: StepMetrics, heldout: dict[str, float], last: int) -> None:
        """Report ``step`` of ``last``, as far as is known, and the held-out losses if they were measured after it."""


def reporter(console: Console, names: list[str], start: int, steps: int) -> Reporter:
    """A bar where one can be drawn, else plain lines; ``names`` are the losses to tell of."""
    animated = console.is_terminal and not console.is_dumb_terminal and not console.no_color
    return Bar(console, names, start, steps) if animated else Lines(console, names, steps)


class Bar:
    """A live progress bar with the losses of every depth beside it."""

    def __init__(self, console: Console, names: list[str], start: int, steps: int) -> None:
        self.names = names
        column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        told = TextColumn("{task.description}", markup=False, table_column=column)
        bar, count, left = BarColumn(16), MofNCompleteColumn(), TimeRemainingColumn()
        self.progress = Progress(bar, count, left, told, console=console, expand=True)
        self.task = self.progress.add_task("", completed=start, total=steps)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, step: int, metrics: StepMetrics, heldout: dict[str, float], last: int) -> None:
        self.progress.update(self.task, completed=step, total=last, description=summary(metrics, self.names))
        if heldout:
            words = f"step {step}  held-out  {losses_text(heldout, self.names)}"
            self.progress.console.print(Text(words, style="dim"), no_wrap=True, overflow="ellipsis")


class Lines:
    """A line at the start, at each tenth of the run and at each evaluation, for log files."""

    def __init__(self, console: Console, names: list[str], steps: int) -> None:
        self.console, self.names, self.steps = console, names, steps

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def step(self, step: int, metrics: StepMetrics, heldout: dict[str, float], last: int) -> None:
        tenth = step % max(1, self.steps // LINES) == 0
        if tenth or heldout or step in (1, last):
            measured = f"  |  held-out  {losses_text(heldout, self.names)}" if heldout else ""
            line = f"step {step}/{last}  {summary(metrics, self.names)}{measured}"
            self.console.print(Text(line), soft_wrap=True)


def heldout_table(heads: list[Head], heldout: dict[str, float], right: dict[str, float], tokens: int) -> Table:
    """The held-out loss of every depth: what it predicts, its loss, how often it is right."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("held-out")
    table.add_column("predicts")
    for column in ("nats", "bits", "top-1", "weight"):
        table.add_column(column, justify="right")
    for head in heads:
        nats = heldout[head.name]
        numbers = (f"{nats:.3f}", f"{nats / math.log(2):.3f}", f"{right[head.name]:.1%}", head.weight(tokens))
        table.add_row(head.name, f"byte i + {head.shift}", *numbers)
    return table


def summary(metrics: StepMetrics, names: list[str]) -> str:
    """One step in one line: the loss, that of each depth, speed, balance."""
    parts = [f"loss {metrics.loss:.3f}", losses_text(metrics.losses, names)]
    parts.append(f"{metrics.tokens_per_second:,.0f} tok/s")
    if metrics.balance:
        parts.append(f"load max/mean {metrics.balance:.2f}")
    return "  ".join(parts)


def losses_text(losses: dict[str, float], names: list[str]) -> str:
    """The named losses, in one line."""
    return "  ".join(f"{name} {losses[name]:.3f}" for name in names)
