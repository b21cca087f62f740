"""The losses of a run as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsvgraph.passes.compare.plots import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1f2430"
FAINT = "#8a90a0"
COLOURS = ("#2f5fd0", "#d9663a", "#2b9a74", "#9150c8", "#c23b78", "#7a7420", "#3a94b8", "#6b7280")


def plot_losses(records: Iterable[dict[str, Any]], names: list[str], title: str, path: Path) -> None:
    """Draws train losses (thin, smoothed) and held-out losses (dots) over tokens seen.

    One line for each of the losses ``names``. Raises OSError.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    steps = list(records)
    for colour, name in zip(cycle(COLOURS), names, strict=False):
        _draw_loss(axes, steps, name, colour)
    _dress(axes, title, max((s["tokens"] for s in steps), default=0))
    figure.savefig(path)


def smoothed(values: list[float], share: float = 0.02) -> list[float]:
    """A running mean over the last ``share`` of ``values``, without a bias at the start."""
    width = max(1, int(len(values) * share))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i + 1] - sums[max(0, i + 1 - width)]) / min(i + 1, width) for i in range(len(values))]


def _draw_loss(axes: Axes, steps: list[dict[str, Any]], name: str, colour: str) -> None:
    tokens = [s["tokens"] for s in steps]
    axes.plot(tokens, smoothed([s["losses"][name] for s in steps]), color=colour, alpha=0.45, linewidth=1)
    measured = [(s["tokens"], s["heldout"][name]) for s in steps if name in s.get("heldout", ())]
    if not measured:
        return
    x, y = zip(*measured, strict=True)
    axes.plot(x, y, color=colour, linewidth=2, marker="o", markersize=4, label=plot_text(f"{name}  {y[-1]:.3f}"))


def _dress(axes: Axes, title: str, tokens: int) -> None:
    unit, word = (1e6, " (millions)") if tokens >= 1e6 else (1e3, " (thousands)") if tokens >= 1e4 else (1, "")
    axes.set_title(plot_text(title), loc="left", color=INK, fontsize=12, fontweight="bold")
    axes.set_xlabel(f"tokens seen{word}", color=INK)
    axes.set_ylabel("loss (nats per token)", color=INK)
    axes.grid(axis="y", color="#e6e8ee", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=FAINT, length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")
    axes.margins(x=0.01)
    if axes.get_legend_handles_labels()[0]:
        caption = "held-out (thin: train)"
        axes.legend(title=caption, frameon=False, labelcolor=INK, alignment="left", title_fontsize=9)
