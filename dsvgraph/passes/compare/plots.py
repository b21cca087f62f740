"""Pictures of numbers: points with their front, and lines. Matplotlib is needed only here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsvgraph.errors import DsvError, clipped, printable
from dsvgraph.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, BLUE, ORANGE = "#1f2430", "#8a90a0", "#2f5fd0", "#d9663a"
LONGEST, TICK = 60, 24  # characters of a title, and of a name below a bar
Points = Sequence[tuple[float, float]]


def scatter(path: Path, points: Points, front: Points, x: str, y: str, title: str) -> None:
    """Draw all ``points`` and, joined, those of the front. Raise DsvError if it cannot."""
    axes, save = _begun(title, x, y)
    axes.scatter(*_columns(points), s=14, color=FAINT, alpha=0.5, linewidths=0, label=f"{len(points):,} combinations")
    axes.plot(*_columns(front), "o-", color=ORANGE, markersize=4, linewidth=1.2, label=f"front of {len(front):,}")
    axes.legend(frameon=False, labelcolor=INK)
    save(path)


def bars(path: Path, names: Sequence[str], panels: Mapping[str, Sequence[float]], title: str) -> None:
    """Draw one panel for each quantity, with a bar for each name. Raise DsvError if it cannot."""
    figure = _figure((2.6 * len(panels) + 1, 3.6))
    for i, (quantity, values) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        axes.bar(range(len(names)), values, color=BLUE, width=0.6)
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 4 else {}
        axes.set_xticks(range(len(names)), [plot_text(name, TICK) for name in names], **turned)
        _dress(axes, quantity)
    figure.suptitle(plot_text(title), color=INK, fontsize=11)
    _save(figure, path)


def plot_text(text: str, longest: int = LONGEST) -> str:
    """``text`` as Matplotlib draws it letter by letter: no formula between dollars, and in a legend whatever it begins
    with."""
    text = clipped(printable(text), longest).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _begun(title: str, x: str, y: str) -> tuple[Any, Any]:
    figure = _figure((7.2, 4.8))
    axes = figure.add_subplot()
    axes.set_xlabel(plot_text(x), color=INK)
    axes.set_ylabel(plot_text(y), color=INK)
    _dress(axes, title)
    return axes, lambda path: _save(figure, path)


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DsvError("a plot needs matplotlib", hint="pip install 'dsvgraph[plot]'") from error
    return Figure(figsize=size, dpi=150, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    known = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in known:
        raise DsvError(f"a plot is written as {', '.join(sorted(known))}, not as `{path.name}`")
    write_whole(path, lambda temporary: figure.savefig(temporary, format=kind))


def _dress(axes: Axes, title: str) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_title(plot_text(title), color=INK, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    if axes.get_xlabel():
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#e6e8ee", linewidth=0.6)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]
