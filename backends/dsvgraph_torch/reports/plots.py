"""The plots of a report, as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dsvgraph_torch.training.progress import COLOURS, INK, draw_losses, dress, smoothed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = list[dict[str, Any]]
MOST = 16
"""Routers that a heat map shows."""


def losses(records: Records, names: list[str]) -> str:
    """Return the losses of every depth: training (thin, smoothed) and held-out (dots)."""
    return svg(lambda axes: draw_losses(axes, records, names, ""), "losses")


def rate(records: Records) -> str:
    """Return the learning rate."""
    return svg(lambda axes: _curve(axes, records, [r["lr"] for r in records], "learning rate"), "rate")


def gradient(records: Records) -> str:
    """Return the norm of the gradient before clipping, with suspect steps marked."""

    def draw(axes: Axes) -> None:
        norms = [r["grad_norm"] for r in records]
        _curve(axes, records, norms, "norm of the gradient", thin=True)
        axes.plot([r["tokens"] for r in records], smoothed(norms), color=COLOURS[0], linewidth=1.6)
        suspect = [(r["tokens"], r["grad_norm"]) for r in records if r.get("spike")]
        if suspect:
            axes.plot(*zip(*suspect, strict=True), "x", color=COLOURS[1], label="suspect steps")
            axes.legend(frameon=False, labelcolor=INK)
        if all(norm > 0 for norm in norms):
            axes.set_yscale("log")

    return svg(draw, "gradient")


def balance(records: Records) -> str:
    """Return how much more the busiest expert got than the mean, over training."""
    found = [r for r in records if r.get("balance")]

    def draw(axes: Axes) -> None:
        values = smoothed([r["balance"] for r in found])
        _curve(axes, found, values, "busiest expert / mean (1 is even)")

    return svg(draw, "balance") if found else ""


def load(records: Records) -> str:
    """Return the share of the tokens that each expert got at the last evaluation, a row for each router."""
    last = next((r["load"] for r in reversed(records) if r.get("load")), None)
    if not last:
        return ""
    rows = list(last.items())[:MOST]
    width = max(len(counts) for _, counts in rows)
    shares = [[n * len(c) / max(1, sum(c)) for n in c] + [float("nan")] * (width - len(c)) for _, c in rows]

    def draw(axes: Axes) -> None:
        image = axes.imshow(shares, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
        axes.set_yticks(range(len(rows)), [path for path, _ in rows], fontsize=7)
        axes.set_xlabel("expert", color=INK)
        axes.figure.colorbar(image, ax=axes, label="load / mean")

    return svg(draw, "load", height=1.2 + 0.28 * len(rows))


def _curve(axes: Axes, records: Records, values: list[float], label: str, thin: bool = False) -> None:
    tokens = [r["tokens"] for r in records]
    axes.plot(tokens, values, color=COLOURS[0], alpha=0.35 if thin else 1, linewidth=1 if thin else 1.6)
    dress(axes, "", max(tokens, default=0), label)


def svg(draw: Callable[[Any], object], name: str, height: float = 3.4) -> str:
    """Return what ``draw`` draws as the text of an SVG element, the same for the same numbers."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure = Figure(figsize=(8.4, height), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
