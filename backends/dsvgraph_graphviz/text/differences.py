"""What differs between two models, in words: on each card the kind of difference and what it costs, and the totals."""

from __future__ import annotations

from collections.abc import Iterable

from dsvgraph.passes.compare.diff import Diff
from dsvgraph_graphviz.model.analysis import Analysis
from dsvgraph_graphviz.model.comparison import NodeDiff
from dsvgraph_graphviz.style import theme
from dsvgraph_graphviz.style.markup import cell, label, table, words
from dsvgraph_graphviz.style.words import cut, flops, short

SIGNS = {
    "added": ("+", theme.GREEN), "removed": ("−", theme.ROSE), "replaced": ("⇄", theme.AMBER),
    "resized": ("≠", theme.AMBER), "changed": ("≠", theme.AMBER), "rewired": ("↷", theme.BLUE),
    "renamed": ("=", theme.SLATE),
}  # fmt: skip
INSIDE = ("…", theme.SLATE)
DETAIL = 40  # characters


def with_differences(inner: str, diffs: list[NodeDiff], analysis: Analysis) -> str:
    """Return a label with what differs written over it, in a border of its own."""
    if not diffs:
        return inner
    rows = [*difference_rows(diffs, analysis), cell(inner.removeprefix("<").removesuffix(">"))]
    return label(
        table(rows, **{"border": 2, "style": "rounded", "cellspacing": 2, **difference_border(diffs)}, cellborder=0)
    )


def difference_rows(diffs: list[NodeDiff], analysis: Analysis) -> list[str]:
    """Return what differs, as rows of a card: the kinds, before and after, and what it costs."""
    if not diffs:
        return []
    kinds = dict.fromkeys(kind for mark in diffs for kind in mark.kinds)
    kinds_text = " · ".join(f"{SIGNS[kind][0]} {kind}" for kind in kinds) or f"{INSIDE[0]} differs inside"
    hue = _hue(diffs)
    first = cell(
        words(kinds_text, theme.PAPER, theme.CAPTION, bold=True), bgcolor=hue.badge, style="rounded", cellpadding=3
    )
    lines = (*_details(diffs), *cost_changes(diffs, analysis))
    return [first, *(cell(words(line, theme.MUTED, theme.CAPTION)) for line in lines)]


def difference_border(diffs: list[NodeDiff]) -> dict[str, object]:
    """Return the border of a card that differs; dashed if the node was removed."""
    gone = any("removed" in mark.kinds for mark in diffs)
    more = {"border": 2, "color": _hue(diffs).badge, "style": "rounded,dashed" if gone else "rounded"}
    return more if diffs else {}


def _hue(diffs: list[NodeDiff]) -> theme.Hue:
    kinds = [kind for mark in diffs for kind in mark.kinds]
    return SIGNS[kinds[0]][1] if kinds else INSIDE[1]


def _details(diffs: list[NodeDiff]) -> Iterable[str]:
    """Return before and after, where both are known."""
    found = [pair for mark in diffs for pair in mark.found]
    short_ones = [f"{cut(before, DETAIL)} → {cut(after, DETAIL)}" for _, before, after in found if before and after]
    return short_ones[:2]


def cost_changes(diffs: list[NodeDiff], analysis: Analysis) -> list[str]:
    """Return what a line's differences add to parameters, FLOPs and cache."""
    sums = [0.0, 0.0, 0.0]
    for mark in diffs:
        for real, sign in ((mark.new, 1), (mark.old, -1)):
            if real:
                own = (analysis.count(analysis.parameters(*real)), analysis.work(*real) or 0, analysis.cache(*real))
                sums = [total + sign * value for total, value in zip(sums, own, strict=True)]
    parts = [f"{signed(sums[0])} parameters", f"{signed(sums[1], flops)} / token", f"{signed(sums[2])} cached"]
    shown = [part for part, value in zip(parts, sums, strict=True) if value]
    return [" · ".join(shown)] if shown else []


def signed(value: float, text: object = short) -> str:
    """Return a change with its sign: + 3.2 M."""
    return f"{'+' if value >= 0 else '−'} {text(abs(value))}"  # type: ignore[operator]


def compared_totals(found: Diff) -> tuple[str, str]:
    """Return both models' parameters, FLOPs and cache, and how many lines differ in which way."""
    before, after = found.costs
    pairs = (
        ("parameters", before.parameters.total, after.parameters.total, short),
        ("", before.flops.forward_per_token, after.flops.forward_per_token, lambda v: f"{flops(v)} / token"),
        ("values cached per token", before.kv_cache.elements_per_token, after.kv_cache.elements_per_token, short),
    )
    lines = [f"{text(a)} → {text(b)} {name} ({signed(b - a, text)})".replace("  ", " ")
             if a != b else f"{text(a)} {name} as before" for name, a, b, text in pairs]  # fmt: skip
    kinds = {kind: len(found.of(kind)) for kind in SIGNS}
    counts = [f"{SIGNS[kind][0]} {count} {kind}" for kind, count in kinds.items() if count]
    return " · ".join(line.strip() for line in lines), " · ".join(counts) or "no line differs"
