"""Pieces of HTML that all sections of the page share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from dsvgraph.backends.probes import Estimate

NO_SPANS: Mapping[str, int] = {}


def card(title: str, intro: str, body: str) -> str:
    """Return a section of the page."""
    anchor = title.lower().replace(" ", "-")
    return f'<section id="{anchor}"><h2>{escape(title)}</h2><p class="intro">{escape(intro)}</p>{body}</section>'


def grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    kinds: Sequence[str] = (),
    spans: Mapping[str, int] = NO_SPANS,
) -> str:
    """Return a table; cells are HTML, and ``kinds`` the class of each row.

    In rows of a kind in ``spans``, the second cell is as wide as so many.
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = []
    for place, row in enumerate(rows):
        kind = kinds[place] if kinds else ""
        wide = {1: f' colspan="{spans[kind]}"'} if kind in spans else {}
        cells = "".join(f"<td{wide.get(number, '')}>{cell}</td>" for number, cell in enumerate(row))
        lines.append(f'<tr class="{kind}">{cells}</tr>' if kind else f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def estimate(found: Estimate, digits: int = 3, factor: float = 1, unit: str = "") -> str:
    """Return a mean with its standard error in small print."""
    if math.isnan(found.value):
        return "-"
    error = "" if found.error is None else f" <small>± {found.error * factor:.{digits}f}</small>"
    return f"{found.value * factor:.{digits}f}{unit}{error}"


def percent(found: Estimate) -> str:
    """Return a share in percent with its standard error."""
    return estimate(found, 1, 100, " %")


def hue(place: int) -> str:
    """Return the colour of a prediction: the first one, then the depths."""
    return f"var(--depth{place % 6})"
