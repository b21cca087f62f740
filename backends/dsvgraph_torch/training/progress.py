"""What one sees of a run: a bar on a terminal, a few lines elsewhere, a table at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from dsvgraph.passes.compare.plots import plot_text
from dsvgraph_torch.training.answers import WAYS
from dsvgraph_torch.training.options import UNBOUNDED
from dsvgraph_torch.training.predictions import Prediction
from dsvgraph_torch.training.step import StepMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 10
"""How many lines tell of a run where there is no terminal."""


class ProgressDisplay(Protocol):
    """Shows a run as it goes; enter it before the first step."""

    def __enter__(self) -> ProgressDisplay: ...

    def __exit__(self, *_: object) -> None: ...

    def step(self, step: int, metrics: StepMetrics, heldout: dict[str, float], last: int) -> None:
        """Report ``step`` of ``last``, as far as is known, and the held-out losses if they were measured after it."""


def progress_display(console: Console, names: list[str], start: int, steps: int) -> ProgressDisplay:
    """Return a bar where one can be drawn, else plain lines; ``names`` are the losses to tell of."""
    animated = console.is_terminal and not console.is_dumb_terminal and not console.no_color
    return ProgressBar(console, names, start, steps) if animated else ProgressLines(console, names, steps)


class ProgressBar:
    """A live progress bar with the losses of every depth beside it."""

    def __init__(self, console: Console, names: list[str], start: int, steps: int) -> None:
        self.names = names
        column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        losses = TextColumn("{task.description}", markup=False, table_column=column)
        bar, count, left = BarColumn(16), MofNCompleteColumn(), TimeRemainingColumn()
        self.progress = Progress(bar, count, left, losses, console=console, expand=True)
        self.task = self.progress.add_task("", completed=start, total=steps if steps < UNBOUNDED else None)

    def __enter__(self) -> ProgressBar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, step: int, metrics: StepMetrics, heldout: dict[str, float], last: int) -> None:
        self.progress.update(self.task, completed=step, total=last, description=summary(metrics, self.names))
        if heldout:
            words = f"step {step}  held-out  {losses_text(heldout, self.names)}"
            self.progress.console.print(Text(words, style="dim"), no_wrap=True, overflow="ellipsis")


class ProgressLines:
    """A line at the start, at each tenth of the run and at each evaluation, for log files."""

    def __init__(self, console: Console, names: list[str], steps: int) -> None:
        self.console, self.names, self.steps = console, names, steps

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def step(self, step: int, metrics: StepMetrics, heldout: dict[str, float], last: int) -> None:
        tenth = step % max(1, self.steps // LINES) == 0
        if tenth or heldout or step in (1, last):
            measured = f"  |  held-out  {losses_text(heldout, self.names)}" if heldout else ""
            line = f"step {step}/{last}  {summary(metrics, self.names)}{measured}"
            self.console.print(Text(line), soft_wrap=True)


def heldout_table(
    predictions: list[Prediction],
    heldout: dict[str, float],
    right: dict[str, float],
    tokens: int,
    step: int,
    unit: str = "byte",
) -> Table:
    """Return the held-out loss of every depth: what it predicts, its loss, how often it is right."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("held-out")
    table.add_column("predicts")
    for column in ("nats", "bits", "top-1", "weight"):
        table.add_column(column, justify="right")
    for prediction in predictions:
        nats = heldout[prediction.name]
        numbers = (
            f"{nats:.3f}",
            f"{nats / math.log(2):.3f}",
            f"{right[prediction.name]:.1%}",
            prediction.weight(tokens, step),
        )
        table.add_row(prediction.name, f"{unit} i + {prediction.shift}", *numbers)
    return table


def answers_table(found: dict[str, float]) -> Table:
    """Return the shares of answers that are right, as `OUTPUT.WAY` names them in ``found``."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("answers of the task")
    for column in WAYS:
        table.add_column(column.replace("_", " "), justify="right")
    for output in dict.fromkeys(name.rpartition(".")[0] for name in found):
        table.add_row(output, *(f"{found[f'{output}.{way}']:.1%}" for way in WAYS))
    return table


def summary(metrics: StepMetrics, names: list[str]) -> str:
    """Return one step in one line: the loss, that of each depth, speed, balance."""
    parts = [f"loss {metrics.loss:.3f}", losses_text(metrics.losses, names)]
    parts.append(f"{metrics.tokens_per_second:,.0f} tok/s")
    if metrics.balance:
        parts.append(f"load max/mean {metrics.balance:.2f}")
    return "  ".join(parts)


def losses_text(losses: dict[str, float], names: list[str]) -> str:
    """Return the named losses, as far as they were computed, in one line."""
    return "  ".join(f"{name} {losses[name]:.3f}" for name in names if name in losses)


# -- the plot -----------------------------------------------------------------------------------

INK = "#1f2430"
FAINT = "#8a90a0"
COLOURS = ("#2f5fd0", "#d9663a", "#2b9a74", "#9150c8", "#c23b78", "#7a7420", "#3a94b8", "#6b7280")


def plot_losses(records: Iterable[dict[str, Any]], names: list[str], title: str, path: Path) -> None:
    """Draw train losses (thin, smoothed) and held-out losses (dots) over tokens seen.

    One line for each of the losses ``names``. Raise OSError.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), dpi=150, layout="constrained")
    draw_losses(figure.subplots(), list(records), names, title)
    figure.savefig(path)


def draw_losses(axes: Axes, steps: list[dict[str, Any]], names: list[str], title: str) -> None:
    """Draw what ``plot_losses`` draws."""
    for colour, name in zip(cycle(COLOURS), names, strict=False):
        _draw_loss(axes, steps, name, colour)
    dress(axes, title, max((s["tokens"] for s in steps), default=0), "loss (nats per token)")
    if axes.get_legend_handles_labels()[0]:
        caption = "held-out (thin: train)"
        axes.legend(title=caption, frameon=False, labelcolor=INK, alignment="left", title_fontsize=9)


def smoothed(values: list[float], share: float = 0.02) -> list[float]:
    """Return a running mean over the last ``share`` of ``values``, without a bias at the start."""
    width = max(1, int(len(values) * share))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i + 1] - sums[max(0, i + 1 - width)]) / min(i + 1, width) for i in range(len(values))]


def _draw_loss(axes: Axes, steps: list[dict[str, Any]], name: str, colour: str) -> None:
    computed = [s for s in steps if name in s["losses"]]
    trained = smoothed([s["losses"][name] for s in computed])
    axes.plot([s["tokens"] for s in computed], trained, color=colour, alpha=0.45, linewidth=1)
    measured = [(s["tokens"], s["heldout"][name]) for s in steps if name in s.get("heldout", ())]
    if not measured:
        return
    x, y = zip(*measured, strict=True)
    axes.plot(x, y, color=colour, linewidth=2, marker="o", markersize=4, label=plot_text(f"{name}  {y[-1]:.3f}"))


def dress(axes: Axes, title: str, tokens: int, label: str) -> None:
    """Give a plot over ``tokens`` its axes."""
    unit, word = (1e6, " (millions)") if tokens >= 1e6 else (1e3, " (thousands)") if tokens >= 1e4 else (1, "")
    axes.set_title(plot_text(title), loc="left", color=INK, fontsize=12, fontweight="bold")
    axes.set_xlabel(f"tokens seen{word}", color=INK)
    axes.set_ylabel(label, color=INK)
    axes.grid(axis="y", color="#e6e8ee", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=FAINT, length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")
    axes.margins(x=0.01)
