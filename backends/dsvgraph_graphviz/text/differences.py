"""What differs between two models, on the cards: a word and a sign over each, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable

from dsvgraph.passes.compare.diff import Diff
from dsvgraph_graphviz.model.facts import Facts
from dsvgraph_graphviz.model.union import Mark
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


def marked(inner: str, marks: list[Mark], facts: Facts) -> str:
    """A label with what differs written over it, in a frame of its own; dashed where the line is gone."""
    if not marks:
        return inner
    rows = [*notes(marks, facts), cell(inner.removeprefix("<").removesuffix(">"))]
    return label(table(rows, **{"border": 2, "style": "rounded", "cellspacing": 2, **frame(marks)}, cellborder=0))


def notes(marks: list[Mark], facts: Facts) -> list[str]:
    """What differs, as rows of a card: the kinds, before and after, and what it costs."""
    if not marks:
        return []
    kinds = dict.fromkeys(kind for mark in marks for kind in mark.kinds)
    said = " · ".join(f"{SIGNS[kind][0]} {kind}" for kind in kinds) or f"{INSIDE[0]} differs inside"
    hue = _hue(marks)
    head = cell(words(said, theme.PAPER, theme.QUIET, bold=True), bgcolor=hue.badge, style="rounded", cellpadding=3)
    lines = (*_details(marks), *deltas(marks, facts))
    return [head, *(cell(words(line, theme.MUTED, theme.QUIET)) for line in lines)]


def frame(marks: list[Mark]) -> dict[str, object]:
    """The border of a card that differs; dashed where the line is gone."""
    gone = any("removed" in mark.kinds for mark in marks)
    more = {"border": 2, "color": _hue(marks).badge, "style": "rounded,dashed" if gone else "rounded"}
    return more if marks else {}


def _hue(marks: list[Mark]) -> theme.Hue:
    kinds = [kind for mark in marks for kind in mark.kinds]
    return SIGNS[kinds[0]][1] if kinds else INSIDE[1]


def _details(marks: list[Mark]) -> Iterable[str]:
    """Before and after, where both sides have something to tell."""
    found = [pair for mark in marks for pair in mark.found]
    short_ones = [f"{cut(before, DETAIL)} → {cut(after, DETAIL)}" for _, before, after in found if before and after]
    return short_ones[:2]


def deltas(marks: list[Mark], facts: Facts) -> list[str]:
    """What a line's differences add to parameters, FLOPs and cache."""
    sums = [0.0, 0.0, 0.0]
    for mark in marks:
        for real, sign in ((mark.new, 1), (mark.old, -1)):
            if real:
                own = (facts.count(facts.parameters(*real)), facts.work(*real) or 0, facts.cache(*real))
                sums = [total + sign * value for total, value in zip(sums, own, strict=True)]
    parts = [f"{signed(sums[0])} parameters", f"{signed(sums[1], flops)} / token", f"{signed(sums[2])} cached"]
    shown = [part for part, value in zip(parts, sums, strict=True) if value]
    return [" · ".join(shown)] if shown else []


def signed(value: float, text: object = short) -> str:
    """A change with its sign: + 3.2 M."""
    return f"{'+' if value >= 0 else '−'} {text(abs(value))}"  # type: ignore[operator]


def totals(found: Diff) -> tuple[str, str]:
    """Both models' parameters, FLOPs and cache, and how many lines differ in which way."""
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
