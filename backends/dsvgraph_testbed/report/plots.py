"""The pictures of a report: curves with bands over seeds, differences with intervals, losses by depth."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dsvgraph.backends import BudgetKind
from dsvgraph.passes.compare.plots import plot_text
from dsvgraph_testbed.curves import Curve
from dsvgraph_testbed.measures import NEXT, Measure
from dsvgraph_testbed.report.words import EQUAL, amount, duration, short
from dsvgraph_testbed.results import AtBudget, Results
from dsvgraph_testbed.statistics import Judgement, Verdict, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID = "#1f2430", "#8a90a0", "#e6e8ee"
COLOURS = ("#2f5fd0", "#d9663a", "#2b9a74", "#9150c8", "#c23b78", "#7a7420", "#3a94b8", "#6b7280")
OF_VERDICT = {
    Verdict.BETTER: "#1f8a5b", Verdict.WORSE: "#c23b3b", Verdict.NOT_SIGNIFICANT: "#8a90a0", Verdict.NONE: "#c4c8d2",
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
    "axes.edgecolor": FAINT, "text.color": INK, "axes.labelcolor": INK,
}  # fmt: skip
HIDDEN = 0.1
"""The first part of a curve, whose fall would make the differences at its end too small to see."""


def drawn(size: tuple[float, float], name: str, draw: Callable[[Figure], None]) -> str:
    """Return a figure as an SVG element; equal figures are equal texts."""
    text = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    found = text.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", found[found.index("<svg") :], flags=re.DOTALL)


def colours(results: Results) -> dict[str, str]:
    """Return the colour of each variant."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(results.names)}


# -- curves -------------------------------------------------------------------------------------


def curves(results: Results, measure: Measure) -> str:
    """Return a measure over each budget, a line for each variant with a band of the mean over seeds."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(results.budgets), sharey=True, squeeze=False)[0]
        seen: list[float] = []
        for axes, at in zip(panels, results.budgets, strict=True):
            seen += [value for name in results.names for value in _curve(axes, results, measure, at.kind, name)]
            _budget_line(axes, at)
        _limit(panels[0], seen, measure)
        panels[0].set_ylabel(measure.label if measure.higher_is_better else f"held-out loss, {measure.label} (nats)")
        handles, labels = panels[0].get_legend_handles_labels()
        columns = max(1, min(len(labels), 4))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False)

    return drawn((10.4, 3.7), f"curves {measure.label}", draw)


def _curve(axes: Axes, results: Results, measure: Measure, kind: BudgetKind, name: str) -> list[float]:
    """Draw one variant and return the values that count for the limits of the axis."""
    variant = next(v for v in results.comparison.variants if v.name == name)
    metric = results.measures[measure].get(name, "")
    found = {s: c for s, c in results.curves_of(variant, kind).items() if metric in c.measured}
    if not found:
        return []
    steps = _common(found, metric)
    values = np.array([np.interp(steps, *curve.measured[metric]) for curve in found.values()])
    at = np.mean([[curve.used_at(kind, step) for step in steps] for curve in found.values()], axis=0)
    middle, low, high = np.array([mean_interval(list(column), results.comparison.confidence) for column in values.T]).T
    colour = colours(results)[name]
    axes.plot(at, middle, color=colour, linewidth=1.8, label=plot_text(name, 40))
    axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    return list(middle[steps >= HIDDEN * steps[-1]])


def _common(found: Mapping[int, Curve], metric: str) -> np.ndarray:
    """Return the steps at which all seeds of a variant were measured."""
    sets = [set(curve.measured[metric][0].tolist()) for curve in found.values()]
    return np.array(sorted(set.intersection(*sets)))


def _budget_line(axes: Axes, at: AtBudget) -> None:
    axes.axvline(at.amount, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_title(f"at {EQUAL[at.kind]}: {amount(at.kind, at.amount)}", fontsize=9, color=INK, loc="left")
    units = {BudgetKind.TOKENS: "tokens", BudgetKind.FLOPS: "FLOPs of training", BudgetKind.MINUTES: "wall clock"}
    axes.set_xlabel(units[at.kind])
    number = duration if at.kind is BudgetKind.MINUTES else short
    axes.xaxis.set_major_formatter(lambda value, _: number(value) if value else "0")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlim(0, None)
    _plain(axes, "y")


def _limit(axes: Axes, seen: list[float], measure: Measure) -> None:
    """Set the axis so that the ends of the curves fill it."""
    if seen:
        low, high = min(seen), max(seen)
        room = 0.08 * (high - low) or 0.05
        axes.set_ylim(low - room, min(1.02, high + room) if measure.higher_is_better else high + room)


# -- differences --------------------------------------------------------------------------------


def differences(tables: Mapping[BudgetKind, list[Judgement]], unit: str) -> str:
    """Return every pair's difference by seed, its mean and its simultaneous interval, a panel for each budget."""
    rows = max(map(len, tables.values()), default=0)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for axes, (kind, judgements) in zip(panels, tables.items(), strict=True):
            for row, found in enumerate(judgements):
                _difference(axes, row, found)
            axes.axvline(0, color=INK, linewidth=0.9)
            axes.set_title(EQUAL[kind], fontsize=9, loc="left")
            axes.set_xlabel(f"difference ({unit})")
            axes.set_yticks(range(len(judgements)), [])
            axes.set_ylim(rows - 0.4, -0.6)
            axes.locator_params(axis="x", nbins=5)
            _plain(axes, "x")
        labels = [_row_label(found) for found in next(iter(tables.values()))]
        panels[0].set_yticks(range(len(labels)), labels, fontsize=8)

    return drawn((10.4, 1.15 + 0.5 * rows), f"differences {rows} {unit}", draw)


def _row_label(found: Judgement) -> str:
    pair = found.pair
    of = "" if pair.measure == NEXT else f", {pair.measure}"
    return f"{plot_text(pair.second, 40)}\n{plot_text(f'against {pair.first}{of}', 40)}"


def _difference(axes: Axes, row: int, found: Judgement) -> None:
    colour = OF_VERDICT[found.verdict]
    by_seed = found.pair.differences
    axes.plot(by_seed, np.full(len(by_seed), row + 0.22), "o", color=colour, markersize=2.6, alpha=0.55)
    if found.verdict is not Verdict.NONE:
        axes.plot(found.interval, (row, row), color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([found.effect], [row], "o", color=colour, markersize=5)


# -- depths -------------------------------------------------------------------------------------


def depths(results: Results, at: AtBudget) -> str:
    """Return the held-out loss of every predicted token at a budget, a series for each variant."""
    measures = [measure for measure in at.cells if not measure.higher_is_better]
    names = [name for name in results.names if any(at.cells[m].get(name) for m in measures)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, name in enumerate(names):
            offset = 0.5 * ((place + 0.5) / len(names) - 0.5)
            for x, measure in enumerate(measures):
                cells = at.cells[measure].get(name) or {}
                values = [reading.value for reading in cells.values()]
                if values:
                    middle, low, high = mean_interval(values, results.comparison.confidence)
                    colour, label = colours(results)[name], plot_text(name, 40) if x == 0 else None
                    axes.errorbar(
                        x + offset, middle, [[middle - low], [high - middle]], fmt="o", color=colour, capsize=3,
                        markersize=4.5, label=label,
                    )  # fmt: skip
        axes.set_xticks(range(len(measures)), [plot_text(m.label, 24) for m in measures])
        axes.set_xlim(-0.5, len(measures) - 0.5)
        axes.set_ylabel("held-out loss (nats)")
        axes.set_title(f"at {EQUAL[at.kind]}", fontsize=9, loc="left")
        _plain(axes, "y")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)

    return drawn((10.4, 3.2), "depths", draw)


def _plain(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=FAINT, labelcolor=INK, length=0)
