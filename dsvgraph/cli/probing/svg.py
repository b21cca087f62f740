"""Charts of the page as SVG text; colours are variables of the page, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]


def mixed(share: float, low: str, high: str) -> str:
    """Return the colour between two variables of the page; ``share`` 1 is ``high``."""
    return f"color-mix(in oklab,var(--{high}) {100 * min(1.0, max(0.0, share)):.0f}%,var(--{low}))"


def diverging(value: float, below: str = "against", above: str = "with") -> str:
    """Return a colour for a value between -1 and 1: none at 0."""
    return mixed(abs(value), "none", above if value >= 0 else below)


def scale(share: float) -> str:
    """Return the colour of a probability between 0 and 1, by way of a middle colour."""
    return mixed(2 * share, "low", "middle") if share < 0.5 else mixed(2 * share - 1, "middle", "high")


def number(value: float) -> str:
    """Return a number with three digits; whole numbers of steps with separators."""
    if value == int(value) and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Axis:
    """Values between ``low`` and ``high`` on ``length`` pixels from ``start``."""

    low: float
    high: float
    start: float
    length: float

    def __call__(self, value: float) -> float:
        return self.start + self.length * (value - self.low) / ((self.high - self.low) or 1)

    def ticks(self, about: int = 4) -> list[float]:
        """Return round values along the axis."""
        span = (self.high - self.low) or 1
        step = 10 ** math.floor(math.log10(span / about))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= about)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def lines(
    series: Mapping[str, Points],
    colours: Mapping[str, str],
    title: str,
    limits: tuple[float, float] | None = None,
    errors: Mapping[str, Sequence[float | None]] | None = None,
) -> str:
    """Return a chart of lines over steps, with whiskers where ``errors`` are given, and a title of its own."""
    width, height, left, bottom = 330, 190, 44, 24
    points = [point for found in series.values() for point in found]
    spread = [error or 0 for name in series for error in (errors or {}).get(name, ())] or [0] * len(points)
    ends = [y + side * error for (_, y), error in zip(points, spread, strict=True) for side in (-1, 1)]
    low, high = limits or _limits(ends)
    x = Axis(min(p[0] for p in points), max(p[0] for p in points), left, width - left - 10)
    y = Axis(low, high, height - bottom, -(height - bottom - 26))
    body = [f'<text class="title" x="0" y="13">{escape(title)}</text>', *_grid(x, y, width, height - bottom)]
    for name, found in series.items():
        path = "M" + "L".join(f"{x(a):.1f},{y(b):.1f}" for a, b in found)
        body.append(
            f'<path class="line" d="{path}" style="stroke:{colours[name]}"><title>{escape(name)}</title></path>'
        )
        for (a, b), error in zip(found, (errors or {}).get(name, [None] * len(found)), strict=True):
            body.append(_dot(x(a), y(b), y(b + (error or 0)), y(b - (error or 0)), colours[name], f"{name}: {b:.3f}"))
    return _svg(width, height, body)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1
    return low - pad, high + pad


def _grid(x: Axis, y: Axis, width: float, base: float) -> Iterable[str]:
    for value in y.ticks():
        at, zero = f"{y(value):.1f}", " zero" if value == 0 else ""
        yield f'<line class="grid{zero}" x1="{x.start}" x2="{width - 10}" y1="{at}" y2="{at}"/>'
        yield f'<text class="tick" x="{x.start - 6}" y="{at}" dy=".32em" text-anchor="end">{number(value)}</text>'
    for value in x.ticks(3):
        yield f'<text class="tick" x="{x(value):.1f}" y="{base + 16}" text-anchor="middle">{number(value)}</text>'


def _dot(x: float, y: float, top: float, bottom: float, colour: str, words: str) -> str:
    whisker = (
        f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" style="stroke:{colour}"/>'
    )
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" style="fill:{colour}"><title>{escape(words)}</title></circle>'
    return (whisker if bottom - top > 0.5 else "") + dot


def heat(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[str, str, str]]], cell: float = 22
) -> str:
    """Return a heat map: for every row one (colour, words, number) for each column; numbers where there is room."""
    left = 12 + 6.8 * max(map(len, rows))
    step = min(44, 760 / len(columns))
    width, height = left + step * len(columns) + 4, cell * len(rows) + 22
    body = []
    for r, (name, found) in enumerate(zip(rows, cells, strict=True)):
        middle = r * cell + cell / 2
        body.append(
            f'<text class="row" x="{left - 8:.1f}" y="{middle}" dy=".32em" text-anchor="end">{escape(name)}</text>'
        )
        for c, (colour, words, shown) in enumerate(found):
            place = f'x="{left + c * step:.2f}" y="{r * cell:.1f}" width="{step - 1.5:.2f}" height="{cell - 1.5}"'
            body.append(f'<rect {place} rx="3" style="fill:{colour}"><title>{escape(words)}</title></rect>')
            if step >= 30:
                x = left + c * step + step / 2 - 0.75
                body.append(
                    f'<text class="inside" x="{x:.1f}" y="{middle}" dy=".32em" text-anchor="middle">{shown}</text>'
                )
    every = max(1, math.ceil(len(columns) * 14 / (760 if step * len(columns) > 700 else step * len(columns))))
    for c, name in enumerate(columns):
        if c % every == 0:
            x, y = left + c * step + step / 2 - 0.75, cell * len(rows) + 13
            body.append(f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{escape(name)}</text>')
    return _svg(width, height, body)


def _svg(width: float, height: float, body: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">{"".join(body)}</svg>'
    )


def bar(share: float, colour: str, error: float | None = None, low: float = 0, high: float = 1) -> str:
    """Return a bar from ``low`` to a value on a track to ``high``, with a whisker of one standard error."""
    axis = Axis(low, high, 0, 100)
    width = min(100.0, max(0.0, axis(share))) if math.isfinite(share) else 0.0
    whisker = ""
    if error:
        start, end = max(0.0, axis(share - error)), min(100.0, axis(share + error))
        whisker = f'<i class="error" style="left:{start:.2f}%;width:{end - start:.2f}%"></i>'
    return f'<span class="bar"><i style="width:{width:.2f}%;background:{colour}"></i>{whisker}</span>'
